import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from evenhand.grpo.aggregation import aggregate, length_bases, preference_slopes, preference_weights

EXAMPLES = Path(__file__).parents[1] / "examples"
SINGLE_FILE = EXAMPLES / "lambda_grpo_single_file.py"
RARE_LABELS = EXAMPLES / "rare_label_reward.py"


def load(path: Path) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    single_file = load(SINGLE_FILE)
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


def test_rare_tags_earn_by_rarity_and_by_disagreement() -> None:
    example = load(RARE_LABELS)
    truth = torch.tensor([[1.0, 1, 0]] * 4)
    named = torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]])
    groups, rho = torch.zeros(4, dtype=torch.long), torch.tensor([0.2, 1.0, 0.5])
    f1 = torch.tensor([1, 2 / 3, 2 / 3, 1 / 2])
    torch.testing.assert_close(example.tag_rewards(named, truth, groups, rho, 0, 0), f1)
    by_rarity = torch.tensor([(0.2 + 1) / 2, 0.1, 0.1, 0.1])
    torch.testing.assert_close(example.tag_rewards(named, truth, groups, rho, 2, 0), f1 + 2 * by_rarity)
    # Nobody else names tag 1: the others' share is 0.5/4, and KL = log 8 is cut at log 2. All name tag 0:
    # KL = -log(3.5/4).
    agreed = torch.tensor(3.5 / 4).log().neg() / torch.tensor(2.0).log()
    by_doubt = torch.stack([(0.2 * agreed + 1) / 2, *[0.1 * agreed] * 3])
    torch.testing.assert_close(example.tag_rewards(named, truth, groups, rho, 0, 3), f1 + 3 * by_doubt)
    apart = example.tag_rewards(
        torch.cat([named, 1 - named]), truth.repeat(2, 1), torch.arange(8) // 4, rho, 1, 1
    )
    torch.testing.assert_close(apart[:4], example.tag_rewards(named, truth, groups, rho, 1, 1))


@pytest.mark.slow
def test_the_two_systems_work_in_one_example(tmp_path: Path) -> None:
    options = ["--seeds", "1", "--steps", "2", "--records", "200", "--epochs", "1"]
    run = subprocess.run(
        [sys.executable, str(RARE_LABELS), *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    for row in ("before", "accuracy alone", "and rarity", "and disagreement: gain over"):
        assert row in run.stdout
    assert list(tmp_path.iterdir()) == []
