# Each target sets up .venv by itself; the stamp lets the second call skip that.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint bench bench-xmc clean

demo: $(READY)
	$(BIN)/evenhand multilabel demo
	$(BIN)/evenhand grpo demo

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/debian_tags.py
	$(BIN)/python benchmarks/lambda_grpo.py

bench-xmc: $(READY) .venv-peers/ready
	$(BIN)/python benchmarks/extreme_labels.py --peers .venv-peers/bin/python
	$(BIN)/python benchmarks/extreme_cost.py --labels 1000 10000 100000

clean:
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv-peers/ready:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		'numpy<2' 'scipy<1.14' scikit-learn==1.9.1 omikuji==0.5.2 napkinxc==0.7.2
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps libpecos==1.2.8
	touch $@
