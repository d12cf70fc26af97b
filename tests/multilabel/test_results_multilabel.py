"""benchmarks/results.py with the part on the multi-label game: tiny runs, and the pieces by themselves."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import results
import results_methods
import results_multilabel
import results_multilabel_page
from evenhand.experiments.grid import play_grid
from evenhand.experiments.page import Grid, Points
from evenhand.experiments.runs import Run, find_runs
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from results_ablations import ABLATIONS, BASES, Ablation, base_of, variant
from results_data import MULAN, TUNING_SEED, load, why_absent
from results_methods import ENSEMBLE, GAME, NEURAL_GAME, Outcome, Peer, Team, linear_methods, neural_methods
from results_multilabel_page import COMPARED, QUESTIONS, SHOWN

SMALL = "made up, small"
GIVEN = argparse.Namespace(data=None, peers=None, jobs=1)


def tiny(out):
    return results.main(["--parts", "multilabel", "--size", "tiny", "--jobs", "1", "--out", str(out)])


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A tiny page that was interrupted once."""
    out = tmp_path_factory.mktemp("results")
    work, begun = results_multilabel.work, []

    def stopped(run):
        begun.append(run.folder)
        if len(begun) == 4:
            run.log({"round": 0, "potential": 9.0})  # what a kill leaves of a try
            raise KeyboardInterrupt
        return work(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_multilabel, "work", stopped)
        with pytest.raises(KeyboardInterrupt):
            tiny(out)
        assert not (out / "report.html").exists()
        kept = {path: path.stat().st_mtime_ns for path in out.rglob("figures.json")}
        assert len(kept) == 3
        tiny(out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(begun) == len(set(begun)) + 1 == 19
    return out


def test_a_tiny_page_has_all_its_parts(played):
    text = (played / "report.md").read_text()
    assert re.findall("^## Multi-label: (.*)$", text, re.MULTILINE) == [
        "what was run",
        "does the game help the tail, by which part, at what price to the head?",
        SMALL,
        "division of labour",
        "consensus",
        "one option at a time, neural players",
    ]
    for question in ("Does the game help the tail?", "By which part?", "At what price to the head?"):
        assert f"\n{question}\n\n- " in text
    assert "| game | C " in text  # what the tuning chose
    table = next(line for line in text.splitlines() if line.startswith("| method | P@1 "))
    assert [name.strip() for name in table.split("|")[2:-1]] == list(SHOWN)
    # AP and F1 by tenths, four curves; entropy, precision and ω of two games; N for tail and head.
    assert (played / "report.html").read_text().count("<svg") == 2 + 4 + 1 + 4 + 2
    assert "nan" not in text


def test_nothing_is_played_again_and_no_trace_of_the_kill_is_left(played, monkeypatch):
    monkeypatch.setattr(results_multilabel, "work", None)
    before = (played / "report.html").read_text()
    tiny(played)
    assert (played / "report.html").read_text() == before
    for run in find_runs(played / "multilabel"):
        assert all(line.get("potential") != 9.0 for line in run.records())
        assert sum("configuration" in line for line in run.records()) == 1


def test_a_run_that_fails_is_told_and_the_page_has_the_others(played, tmp_path, monkeypatch):
    def fails(run):
        raise ArithmeticError("on purpose")

    out = tmp_path / "copy"
    shutil.copytree(played, out)
    (out / "report.md").unlink()
    gone = out / "multilabel" / "made-up-small" / "game" / "seed-0"
    (gone / "figures.json").unlink()
    monkeypatch.setattr(results_multilabel, "work", fails)
    with pytest.raises(SystemExit, match=r"^error: 1 of 18 runs failed; (?s:.)*on purpose"):
        tiny(out)
    assert "| game | " in (out / "report.md").read_text()
    assert not (gone / "figures.json").exists()


def test_the_same_seed_gives_the_same_figures_and_evidence(played, tmp_path):
    cells = results_multilabel.cells("tiny", GIVEN)
    chosen = [cell for cell in cells if cell.seed == 1 and cell.method in (GAME, NEURAL_GAME)]
    for again in play_grid(chosen, results_multilabel.work, tmp_path):
        first = Run.read(played / "multilabel" / again.folder.relative_to(tmp_path))
        assert first.figures == again.figures
        records = [
            [{name: one for name, one in line.items() if "seconds" not in name} for line in run.records()]
            for run in (first, again)
        ]
        assert records[0] == records[1]


def test_the_best_configuration_of_the_tuning_is_played(played):
    folder = played / "multilabel" / "made-up-small" / "game"
    tried = json.loads((folder / "tuning.json").read_text())
    assert [one["configuration"] for one in tried] == linear_methods()[GAME].tried[:2]
    worth = [one["figures"]["mAP"] + one["figures"]["bottom half's F1 (macro_f1)"] for one in tried]
    best = tried[int(np.argmax(worth))]["configuration"]
    for run in find_runs(folder):
        assert [line["configuration"] for line in run.records() if "configuration" in line] == [best]


def test_a_budget_of_two_tries_every_value_of_a_neural_method():
    for name, method in neural_methods(1).items():
        for option in method.tried[0]:
            values, first = ([one[option] for one in part] for part in (method.tried, method.tried[:2]))
            assert {*values} == {*first}, (name, option)
        assert len({tuple(one.items()) for one in method.tried}) == 4


def test_what_was_tuned_by_others_values_is_tuned_anew(tmp_path):
    cell = next(cell for cell in results_multilabel.cells("tiny", GIVEN) if cell.method == GAME)
    place = tmp_path / "made-up-small" / "game"
    place.mkdir(parents=True)
    (place / "tuning.json").write_text('[{"configuration": {"C": 9.0}, "figures": {"mAP": 1.0}}]')
    play_grid([cell], results_multilabel.work, tmp_path)
    found = json.loads((place / "tuning.json").read_text())
    assert [one["configuration"] for one in found] == cell.config["tried"]


def test_tuning_never_sees_the_test_part(public_data):
    folder = public_data("mulan")
    tuning, reported = load("medical", folder, TUNING_SEED), load("medical", folder, 0)
    seen = {*tuning.train.instance_ids, *tuning.test.instance_ids}
    assert len(seen) == tuning.train.n_instances + tuning.test.n_instances == reported.train.n_instances
    np.testing.assert_allclose(
        tuning.train.X.sum() + tuning.test.X.sum(), reported.train.X.sum()
    )  # the rows of the training part, whatever they are called
    assert load("medical", folder, 1).test.X.sum() == reported.test.X.sum()


def test_what_is_absent_is_told(tmp_path):
    assert why_absent(SMALL, None) is None
    assert why_absent("yeast", None) == "no folder of MULAN's files was given (--data)"
    assert why_absent("yeast", tmp_path) == f"{tmp_path} has no yeast-train.arff.gz"


def test_absent_data_are_left_out_of_the_grid(capsys):
    names = {cell.data for cell in results_multilabel.cells("quick", GIVEN)}
    assert names == {"made up"}
    assert "medical is left out: no folder" in capsys.readouterr().err


def test_every_cell_of_the_full_grid_has_a_folder_and_a_method(tmp_path, monkeypatch):
    monkeypatch.setattr(results_multilabel, "why_absent", lambda name, folder: None)
    given = argparse.Namespace(data=tmp_path, peers=Path("python"), jobs=2)
    cells = results_multilabel.cells("full", given)
    assert len({cell.folder(tmp_path) for cell in cells}) == len(cells)
    assert {cell.data for cell in cells} >= {"made up", *MULAN}
    for data in ("bibtex", "corel5k"):
        methods = {cell.method for cell in cells if cell.data == data}
        assert {GAME, NEURAL_GAME, "neural, focal", "pecos", "libmultilabel", "OvR logistic"} <= methods
    budgets = {
        data: {
            len(cell.config["tried"])
            for cell in cells
            if (cell.data, cell.config["kind"]) == (data, "compared")
        }
        for data in {cell.data for cell in cells}
    }
    assert all(len(budget) == 1 for budget in budgets.values())  # the same for all methods
    assert all(cell.seed != TUNING_SEED for cell in cells)


def test_the_page_knows_all_methods_it_asks_for():
    known = {*linear_methods(), *neural_methods(1)}
    assert {name for question in QUESTIONS for _, *pair in question.pairs for name in pair} <= known
    assert set(COMPARED) <= set(SHOWN)


def test_ablations_start_from_options_that_the_estimators_take():
    kinds = {"linear": CuriosityGameClassifier, "neural": NeuralGameClassifier}
    for family, ablations in ABLATIONS.items():
        for ablation in ablations:
            played = {variant(family, ablation, value).method for value in ablation.values}
            assert len(played) == len(ablation.values)
            assert base_of(family, ablation).method in played
            for value in ablation.values:
                kinds[family]().set_params(**variant(family, ablation, value).options).check_options()


def test_variants_with_the_same_options_are_one_method():
    same = Ablation("α", "rarity_reward", (1.0,)), Ablation("β", "disagreement_reward", (1.0,))
    assert {variant("neural", one, 1.0).method for one in same} == {"neural: as it is"}
    assert variant("neural", same[0], 3.0).options == {**BASES["neural"], "rarity_reward": 3.0}


@pytest.fixture
def made_up_runs(tmp_path):
    """Runs: the game gains 2.0 to 2.2 points of the tail over the ensemble, and loses 0.8 to 1 of P@1."""
    runs = []
    for data in ("a", "b"):
        for method, tail, head in ((GAME, 32.0, 79.0), (ENSEMBLE, 30.0, 80.0)):
            for seed in range(5):
                place = tmp_path / data / method / str(seed)
                run = Run.start(place, method, data, seed, {"kind": "compared"})
                run.log({"configuration": {"C": 0.3}})
                gain = 0.05 * seed if method == GAME else 0.0
                run.finish({"Rare-F1 (macro_f1)": tail + seed + gain, "P@1": head + seed + gain})
                runs.append(run)
    return runs


def test_answers_are_computed_from_the_intervals(made_up_runs):
    sections = results_multilabel.sections(made_up_runs)
    answers = next(section for section in sections if section.heading.endswith("at what price to the head?"))
    told = [point for block in answers.blocks if isinstance(block, Points) for point in block.points]
    assert told[0] == (
        "linear (game less ensemble, α = β = 0), Rare-F1 (macro_f1): +2.10 in the mean; above on 2 and below"
        " on 0 of 2 data sets by the 95 % interval, on 2 and 0 after Holm's correction over all 4"
        " comparisons."
    )
    assert any("P@1: -0.90 in the mean; above on 0 and below on 2" in point for point in told)
    table = next(
        block
        for section in sections
        for block in section.blocks
        if isinstance(block, Grid) and block.caption.startswith("game less the other")
    )
    assert table.rows == [[ENSEMBLE, "+2.10 [+2.00, +2.20] **", "-0.90 [-1.00, -0.80] **"]]


def test_runs_that_are_not_finished_are_left_out(made_up_runs, tmp_path):
    begun = Run.start(tmp_path / "begun", "one player", "a", 0, {"kind": "compared"})
    sections = results_multilabel.sections([*made_up_runs, begun])
    assert not any("one player" in str(row) for row in sections[2].blocks[0].rows)


def test_consensus_is_a_tenth_of_the_highest_disagreement():
    courses = [[0.01, 0.4, 0.2, 0.03, 0.3], [0.5, 0.2, 0.1, 0.06, 0.06]]
    found = results_multilabel_page._as_cells(courses)
    assert found == ["0.2550", "0.4500", "0.1800", "1 of 2", "3"]


def outcome_of(problem, probabilities, team=None):
    sets = sparse.csr_array((probabilities > 0.5).astype(np.float32))
    return Outcome(probabilities, {"micro": sets, "macro_f1": sets}, team)


def test_figures_of_one_who_knows_the_truth_are_all_100():
    problem = load(SMALL, None, 0)
    truth = problem.test.Y.toarray()
    figures = results_multilabel.measure(outcome_of(problem, truth * 0.8 + 0.1), problem)
    fewer = {name for name in figures if "P@" in name}  # instances with fewer labels, and labels that tie
    assert {name for name, value in figures.items() if value != pytest.approx(100)} <= fewer
    assert figures["P@1"] == 100
    assert {f"F1 (macro_f1), tenth {n}" for n in range(1, 11)} | set(SHOWN) <= set(figures)


def test_a_players_labour_is_told_by_tenths():
    problem = load(SMALL, None, 0)
    truth = problem.test.Y.toarray()
    rare = np.argsort(problem.train.label_counts(), kind="stable")[:3]  # the rarest tenth of 30
    logits = np.stack([truth * 2.0 - 1, 1 - truth * 2.0])
    weights = np.tile([[0.75], [0.25]], truth.shape[1])
    logits[1, :, rare], weights[:, rare] = np.nan, [[1.0] * 3, [0.0] * 3]
    found = results_multilabel._division(Team([], logits, weights), problem)
    assert (
        found["Average precision of player 1, tenth 1"]
        == found["Average precision of player 1, tenth 10"]
        == 100
    )
    assert "Average precision of player 2, tenth 1" not in found
    assert found["Average precision of player 2, tenth 10"] < 50
    assert (found["Share of ω of player 1, tenth 1"], found["Share of ω of player 2, tenth 10"]) == (100, 25)
    assert found["Entropy of ω, tenth 1"] == 0
    assert found["Entropy of ω, tenth 5"] == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


def test_decisions_come_from_rows_that_a_fold_has_not_seen():
    problem = load(SMALL, None, 0)
    X, X_test = (views.blocks["whole"].toarray() for views in (problem.views, problem.test_views))
    rows = [row.tobytes() for row in X]
    calls = []

    def scores(X, Y, X_new):
        calls.append([[row.tobytes() for row in part.toarray()] for part in (X, X_new)])
        return np.zeros((X_new.shape[0], Y.shape[1]), np.float32)

    results_methods._cross_fitted(problem, scores, seed=0)
    *folds, (learned, judged) = calls
    assert len(folds) == 3
    assert (learned, judged) == (rows, [row.tobytes() for row in X_test])
    for inside, outside in folds:
        assert sorted(inside + outside) == sorted(rows)
        assert not {*inside} & {*outside}
    assert sorted(row for _, outside in folds for row in outside) == sorted(rows)


@pytest.mark.slow
def test_a_peer_in_a_process_of_its_own_is_judged_like_the_rest():
    problem = load(SMALL, None, 0)
    peer = Peer([], "evenhand, α = 0", Path(sys.executable))
    figures = results_multilabel.measure(peer.play(problem, {"C": 1.0}, seed=0), problem)
    assert figures["P@1"] > 60
    with pytest.raises(RuntimeError, match=r"(?s)evenhand, α = 0 failed: .*no_such_option"):
        peer.play(problem, {"no_such_option": 1}, seed=0)
