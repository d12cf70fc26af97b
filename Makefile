# Each target sets up .venv by itself; the stamp lets the second call skip that.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint docs results results-quick bench bench-xmc clean

demo: $(READY)
	$(BIN)/evenhand multilabel demo
	$(BIN)/evenhand grpo demo

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# One page with seeds and intervals in runs/results (hours), or a part of it in runs/results-quick (minutes). What is
# there is not run again. For all of it: make results RESULTS='--data FOLDER --peers PYTHON'.
results: $(READY)
	$(BIN)/python benchmarks/results.py $(RESULTS)

results-quick: $(READY)
	$(BIN)/python benchmarks/results.py --size quick --out runs/results-quick $(RESULTS)

bench: $(READY)
	$(BIN)/python benchmarks/debian_tags.py
	$(BIN)/python benchmarks/step_cost.py

# Hours: what is in runs/ already is not repeated.
XMC := $(BIN)/python benchmarks/extreme_labels.py --peers .venv-peers/bin/python
bench-xmc: $(READY) .venv-peers/ready
	$(XMC) depends --rounds 1 --methods evenhand libmultilabel
	$(XMC) depends --splits 5 --methods evenhand "evenhand, 3 trees" \
		"evenhand, 3 trees, α = 1" "evenhand, α = 0" \
		pecos "omikuji (Parabel)" "omikuji (Bonsai)" napkinxc
	$(XMC) tags --methods evenhand pecos
	$(BIN)/python benchmarks/extreme_cost.py
	$(XMC) proteins-fifth --rounds 1 --limit 1800 --methods evenhand pecos "omikuji (Parabel)"
	$(XMC) proteins --rounds 1 --methods evenhand

clean:
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv-peers/ready:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		'numpy<2' 'scipy<1.14' 'pandas<3' scikit-learn==1.9.1 omikuji==0.5.2 napkinxc==0.7.2 \
		psutil tqdm python-graphblas 'suitesparse-graphblas<10'
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		libpecos==1.2.8 libmultilabel==0.10.0 liblinear-multicore==2.50.0 sparsekmeans==0.3.1
	touch $@
