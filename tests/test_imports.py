"""Neither system needs what only the other one installs."""

import subprocess
import sys

import pytest

MULTILABEL = (
    *("estimator", "extreme.estimator", "neural.estimator", "text_views", "readers", "datasets", "model_io"),
    *("metrics", "decoding", "commands.train", "commands.evaluate", "commands.predict", "commands.inspect"),
)
GRPO = (
    *(
        "aggregation",
        "preference",
        "trainer",
        "rewards",
        "tasks",
        "evaluation",
        "generations",
        "chain_policy",
    ),
    *("demo", "report", "commands.train", "commands.evaluate", "commands.results", "verl_plugin"),
)
THEIRS = {
    "multilabel": (
        MULTILABEL,
        ("evenhand.grpo", "transformers", "trl", "datasets", "peft", "accelerate", "timm"),
    ),
    "grpo": (GRPO, ("evenhand.multilabel", "sklearn", "numba", "joblib")),
}


@pytest.mark.parametrize("system", THEIRS)
def test_a_system_is_imported_without_what_only_the_other_one_needs(system):
    if system == "grpo":
        pytest.importorskip("trl", reason="needs trl: pip install 'evenhand[grpo]'")
    modules, without = THEIRS[system]
    code = f"""
import importlib, sys
for name in {without}:
    sys.modules[name] = None  # an import of it fails
for name in {modules}:
    importlib.import_module("evenhand.{system}." + name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
