"""benchmarks/results.py with the part on λ-GRPO: tiny runs, and runs that are made up."""

import argparse
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import results
import results_lambda
from evenhand.experiments.runs import Run, find_runs
from results_lambda_plots import at_equal_tokens, over

DATA = "chain sums, longer"


def tiny(out, *options):
    return results.main(["--parts", "lambda", "--size", "tiny", "--jobs", "1", "--out", str(out), *options])


def test_a_tiny_page_is_made_and_an_interrupted_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results_lambda, "set_up", lambda: None)  # it is for a process of its own
    work, played = results_lambda.work, []

    def stopped(run):
        if len(played) == 3:
            run.log({"step": 1})  # what a kill leaves of a try
            raise KeyboardInterrupt
        played.append(run.folder)
        return work(run)

    monkeypatch.setattr(results_lambda, "work", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path)
    assert not (tmp_path / "report.html").exists()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("figures.json")}
    assert len(kept) == 3

    monkeypatch.setattr(results_lambda, "work", lambda run: played.append(run.folder) or work(run))
    tiny(tmp_path)
    assert len(played) == len(set(played)) == 8
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len([path for path in (tmp_path / "starting-policies").iterdir() if path.is_dir()]) == 1
    runs = find_runs(tmp_path / "lambda")
    assert {len(list(run.records())) for run in runs} == {3}
    assert "λ" in Run.read(tmp_path / "lambda" / "chain-sums-longer" / "power-1" / "seed-0").figures

    page, markdown = (tmp_path / f"report.{ending}" for ending in ("html", "md"))
    assert re.findall("^## (.*)$", markdown.read_text(), re.MULTILINE) == [
        "λ-GRPO: what was run",
        "λ-GRPO: what it says",
        f"λ-GRPO: {DATA}",
    ]
    # Accuracy over tokens and seconds; λ, f, entropy, length; two by quarter; the sweeps of λ and of r.
    assert page.read_text().count("<svg") == 10

    monkeypatch.setattr(results_lambda, "work", None)  # nothing is left to be played
    before = page.read_text()
    tiny(tmp_path)
    assert page.read_text() == before

    config = tmp_path / "lambda" / "chain-sums-longer" / "dapo" / "seed-0" / "config.json"
    told = json.loads(config.read_text())
    told["config"]["demo"]["steps"] = 4
    config.write_text(json.dumps(told))
    with pytest.raises(SystemExit, match=r"error: .*seed-0 is a run with config .*; delete it, or write to"):
        tiny(tmp_path)


def test_what_cannot_be_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tiny(tmp_path, "--jobs", "0")
    assert "--jobs is 0; give at least 1" in capsys.readouterr().err


def test_the_full_grid_has_a_folder_for_each_cell():
    cells = results_lambda.cells("full", argparse.Namespace())
    assert len(cells) == 3 * 5 * len(results_lambda.ALL)
    assert len({cell.folder(Path()) for cell in cells}) == len(cells)
    by_name = {cell.method: cell.config["options"] for cell in cells}
    assert by_name["power-2"] == {"loss_type": "power", "lambda_fixed": True, "lambda_start": -2.0}
    assert by_name["lambda, r = 1/30"]["lambda_r"] == 1 / 30
    assert by_name["lambda, r = 1/30"]["lambda_learning_rate"] == by_name["lambda"]["lambda_learning_rate"]
    assert {cell.config["demo"]["family"]["right_more_often"] for cell in cells} == {
        "longer",
        "neither",
        "shorter",
    }


def made_up(out, method, seed, accuracy, tokens=100):
    """A run of eight steps that writes so many tokens in each, right in seed % + 10 % a step."""
    demo = results_lambda.cells("tiny", argparse.Namespace())[0].config["demo"]
    run = Run.start(out / method / str(seed), method, DATA, seed, {"demo": demo, "options": {}})
    record = {
        "before": {"accuracy": 0.1},
        "after": {"accuracy": accuracy / 100, "length": 5.0, "long_share": 0.5},
        "steps": [
            {
                "accuracy": step / 10 + seed / 100,
                "tokens": tokens * step,
                "seconds": float(step),
                "entropy": 0.5,
            }
            | {"weight_min": 1.0, "weight_max": 1.0, "weight_std": 0.0, "length": 5.0}
            | {name: 0.0 for names in results_lambda.QUARTERS.values() for name in names}
            for step in range(1, 9)
        ],
    }
    for number, step in enumerate(record["steps"], start=1):
        run.log({"step": number, **step})
    run.finish(results_lambda.figures_of(record))
    return run


def test_at_equal_tokens_all_runs_of_a_seed_have_written_as_much(tmp_path):
    short, long = (made_up(tmp_path, name, 1, 50, tokens) for name, tokens in (("dapo", 100), ("power", 250)))
    other = made_up(tmp_path, "power", 2, 50, 1000)  # alone with its seed
    found = at_equal_tokens([short, long, other])
    # 800 tokens are eight short steps or three long ones; the mean of the last five of these.
    assert found[short.folder] == pytest.approx(10 * (4 + 5 + 6 + 7 + 8) / 5 + 1)
    assert found[long.folder] == pytest.approx(10 * (1 + 2 + 3) / 3 + 1)
    assert found[other.folder] == pytest.approx(10 * (4 + 5 + 6 + 7 + 8) / 5 + 2)
    assert at_equal_tokens([short, made_up(tmp_path, "grpo", 1, 50, 900)]) == {
        short.folder: found[short.folder]  # the first step of the other took more than there is
    }


def test_curves_end_where_the_first_run_ends(tmp_path):
    runs = [made_up(tmp_path, "dapo", seed, 50, tokens) for seed, tokens in ((0, 1000), (1, 2000))]
    plot, _ = over(results_lambda.TokenResults(runs, {}), DATA)
    (line,) = plot.figure.axes[0].get_lines()
    at, accuracy = line.get_data()
    assert (at[0], at[-1]) == (2.0, 8.0)
    # At 8,000 tokens one has done eight steps and the other four.
    assert accuracy[-1] == pytest.approx((10 * 6 + (10 * 2.5 + 1)) / 2)


def test_the_verdicts_follow_from_the_intervals_with_all_comparisons_counted(tmp_path):
    gains = {
        "dapo": 0,
        "grpo": -4,
        "lambda": 0,
        "power": 0,
        "power-1": -5,
        "power+1": 3,
        "lambda, r = 1/3": 0,
    }
    runs = [
        made_up(tmp_path, method, seed, 50 + seed + gain + 0.1 * number * (-1) ** seed)
        for number, (method, gain) in enumerate(gains.items())
        for seed in range(5)
    ]
    sections = {section.heading: section.blocks for section in results_lambda.sections(runs)}
    points = "\n".join(sections["λ-GRPO: what it says"][0].points)
    # grpo, lambda and power are compared with 1, 2 and 3 others, each in two figures; three more with dapo.
    n = 2 * (1 + 2 + 3) + 3
    assert re.search(
        rf"^grpo against dapo, accuracy: -3.98, below by .*, and after Holm's correction over {n}\.$",
        points,
        re.MULTILINE,
    )
    assert re.search(r"^lambda against grpo, accuracy: \+4.02, above by", points, re.MULTILINE)
    assert re.search(r"^power against lambda, accuracy: .*the interval holds 0", points, re.MULTILINE)
    assert (
        "λ fixed in the power form, against dapo, accuracy: 2 comparisons; above in 1 and below in 1 by the"
        f" 95 % interval, in 1 and 1 after Holm's correction over all {n} comparisons." in points
    )
    assert (
        "the paper's form with another r, against dapo, accuracy: 1 comparisons; above in 0 and below in 0"
        in points
    )
