import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import torch

from evenhand.grpo.aggregation import aggregate, length_bases, preference_slopes, preference_weights

SINGLE_FILE = Path(__file__).parents[1] / "examples" / "lambda_grpo_single_file.py"


def test_the_single_file_runs_its_own_checks_and_imports_torch_only(tmp_path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(SINGLE_FILE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported == {"torch"}
    run = subprocess.run(
        [sys.executable, str(SINGLE_FILE)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "λ = 0 is DAPO to the bit" in run.stdout
    assert "∂J/∂λ was what autograd says in all 180 updates" in run.stdout


def test_the_library_agrees_with_the_single_file() -> None:
    spec = importlib.util.spec_from_file_location("single_file", SINGLE_FILE)
    assert spec is not None
    assert spec.loader is not None
    single_file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(single_file)
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (3, 4), generator=draw).double()
    h = single_file.length_bases(lengths)
    ids = torch.arange(3).repeat_interleave(4)
    torch.testing.assert_close(length_bases("lambda", lengths.flatten(), ids).view(3, 4), h)
    mask = torch.arange(8) < lengths.flatten()[:, None]
    terms = torch.randn(12, 8, generator=draw, dtype=torch.float64)
    for number in (-3.0, 0.0, 1.5):
        lam = torch.tensor(number, dtype=torch.float64)
        f = preference_weights("lambda", h, number)
        torch.testing.assert_close(f, single_file.preference(h, lam), rtol=1e-12, atol=0)
        slopes = single_file.preference_slope(h, lam)
        torch.testing.assert_close(preference_slopes("lambda", h, number), slopes, rtol=1e-10, atol=1e-14)
        expected = single_file.lambda_grpo(terms, mask, f.flatten())
        torch.testing.assert_close(aggregate(terms, mask, f.flatten(), int(lengths.sum())), expected)
