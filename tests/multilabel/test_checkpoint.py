"""An interrupted training goes on where it ended, with the same results to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel import training
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.game import Rules
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.training import Settings, train
from evenhand.multilabel.views import Views

DATA = make_long_tail(100, 70, 60, seed=1)  # two blocks of labels
VIEWS = Views({"left": DATA.X[:, :30], "right": DATA.X[:, 30:], "dense": DATA.X[:, :20].toarray()})
NAMES = VIEWS.names
OWNERS = np.ones((3, 70), np.bool_)
HINGE = Rules("squared_hinge", "success", 3.0, 1.0, 0.0, "logit")
LIKELIHOOD = Rules("log_likelihood", "divergence", 1.0, 1.0, 0.5, "probability")
SETTINGS = Settings(
    HINGE,
    regularization=0.3,
    rounds=2,
    n_folds=2,
    fusion_pull=10.0,
    tolerance=0.2,
    prune=0.0,
    n_jobs=1,
    seed=0,
)


class StopNowError(Exception):
    pass


def _stop_after(ticks):
    def report(what, done, total):
        if done > ticks:
            raise StopNowError

    return report


def _train(settings=SETTINGS, *, views=VIEWS, labels=DATA.Y, **options):
    return train(views, labels, OWNERS, NAMES, settings, **options)


def _assert_same(one, other):
    assert np.array_equal(one.fused, other.fused)
    assert np.array_equal(one.outputs.logits, other.outputs.logits)
    assert np.array_equal(one.team.fusion.weights, other.team.fusion.weights)
    assert np.array_equal(one.team.fusion.bias, other.team.fusion.bias)
    for player, player_too in zip(one.team.players, other.team.players, strict=True):
        assert player.view == player_too.view
        assert (player.weights != player_too.weights).nnz == 0
    without_clock = [
        [{name: value for name, value in record.items() if name != "seconds"} for record in team.history]
        for team in (one.team, other.team)
    ]
    assert without_clock[0] == without_clock[1]


@pytest.fixture
def always_on(monkeypatch):
    """Every round counts as a gain, so that the game goes through all of them with warm starts."""
    seen = iter(range(1000))
    real = training.summarise
    monkeypatch.setattr(training, "summarise", lambda *a: {**real(*a), "potential": float(next(seen))})


@pytest.mark.usefixtures("always_on")
@pytest.mark.parametrize("ticks", [0, 3, 9, 13])
def test_a_training_that_was_interrupted_ends_the_same(tmp_path, ticks, monkeypatch):
    settings = replace(SETTINGS, rounds=2)
    whole = _train(settings)
    with pytest.raises(StopNowError):
        _train(settings, on_progress=_stop_after(ticks), checkpoint=tmp_path / "run")
    solved = []
    real = training._Game._respond
    monkeypatch.setattr(
        training._Game, "_respond", lambda self, i, alone: solved.append(i) or real(self, i, alone=alone)
    )
    resumed = _train(replace(settings, n_jobs=2), checkpoint=tmp_path / "run")
    assert len(solved) == 9 - ticks // 2  # two blocks a turn: what was finished is not solved again
    for one, other in zip(whole.team.history, resumed.team.history, strict=True):
        assert one.pop("potential") < other.pop("potential")  # the fixture's count goes on
    _assert_same(whole, resumed)


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, rules=LIKELIHOOD, rounds=1),
        replace(SETTINGS, n_folds=0, rounds=1),
        replace(SETTINGS, rounds=0, prune=0.05),
        SETTINGS,  # with its own potential
    ],
    ids=["likelihood", "no folds", "no rounds", "hinge"],
)
def test_it_ends_the_same_whatever_the_game(tmp_path, settings):
    whole = _train(settings)
    with pytest.raises(StopNowError):
        _train(settings, on_progress=_stop_after(4), checkpoint=tmp_path / "run")
    _assert_same(whole, _train(settings, checkpoint=tmp_path / "run"))
    reported = []
    _assert_same(
        whole, _train(settings, checkpoint=tmp_path / "run", on_progress=lambda *r: reported.append(r))
    )
    assert [done for _, done, _ in reported] == list(range(1, len(reported) + 1))


def test_seconds_count_the_interrupted_run_too(tmp_path):
    settings = replace(SETTINGS, rounds=0)
    _train(settings, checkpoint=tmp_path / "run")
    (last,) = (tmp_path / "run").glob("turn-000002/turn.json")
    document = json.loads(last.read_text())
    document["state"]["seconds"] += 1000
    last.write_text(json.dumps(document))
    assert _train(settings, checkpoint=tmp_path / "run").team.history[0]["seconds"] > 1000


def test_another_training_is_refused_by_what_differs(tmp_path):
    _train(replace(SETTINGS, rounds=0), checkpoint=tmp_path / "run")
    settings, more = replace(SETTINGS, rounds=0), sparse.csr_array(DATA.Y.copy())
    more.data[0] = 0
    more.eliminate_zeros()
    others = [
        (
            {"settings": replace(settings, regularization=1.0)},
            r"settings \(regularization was 0.3 and is 1.0\)",
        ),
        (
            {"settings": replace(settings, rules=replace(HINGE, rarity_reward=2.0), seed=0)},
            r"settings \(rarity_reward was 3.0 and is 2.0\)",
        ),
        ({"labels": more}, r"other data \(.*labels\)"),
        ({"views": Views({**VIEWS.blocks, "dense": -VIEWS.blocks["dense"]})}, r"data \(view 'dense'\)"),
        ({"row_weights": np.arange(1.0, 101)}, r"data \(row weights\)"),
        ({"groups": np.arange(100) // 2}, r"data \(folds, groups\)"),
    ]
    for change, message in others:
        with pytest.raises(FolderError, match=message + r".* Delete the folder .* or give another name"):
            _train(**{"settings": settings, "checkpoint": tmp_path / "run", **change})


def test_other_groups_are_another_training_without_folds_too(tmp_path):
    settings = replace(SETTINGS, rounds=0, n_folds=0)
    names = np.array([f"group {n // 4:02}" for n in range(100)], dtype=object)
    _train(settings, groups=names, checkpoint=tmp_path / "run")
    _train(settings, groups=np.arange(100) // 4 + 1000, checkpoint=tmp_path / "run")  # other names
    with pytest.raises(FolderError, match=r"other data \(groups\)"):
        _train(settings, groups=np.arange(100) // 2, checkpoint=tmp_path / "run")


def test_another_release_is_refused(tmp_path, monkeypatch):
    settings = replace(SETTINGS, rounds=0)
    _train(settings, checkpoint=tmp_path / "run")
    monkeypatch.setattr("evenhand.multilabel.resuming.__version__", "99.0")
    with pytest.raises(FolderError, match=r"begun with evenhand .*, this is 99\.0"):
        _train(settings, checkpoint=tmp_path / "run")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mum.txt").write_text("dear")
    with pytest.raises(FolderError, match="give a new folder or that of an earlier run"):
        _train(checkpoint=tmp_path / "letters")
    assert os.listdir(tmp_path / "letters") == ["to_mum.txt"]


def test_a_damaged_turn_is_refused_and_an_unfinished_one_is_cleared_away(tmp_path):
    settings = replace(SETTINGS, rounds=0)
    whole = _train(settings, checkpoint=tmp_path / "run")
    left = tmp_path / "run" / ".turn-000001.0123456789abcdef.tmp"
    (tmp_path / "run" / "turn-000001").rename(left)
    (left / "turn.json").unlink()
    _assert_same(whole, _train(settings, checkpoint=tmp_path / "run"))
    assert not left.exists()
    (arrays,) = (tmp_path / "run" / "turn-000000").glob("arrays-*")
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(FolderError, match=r"turn-000000.* was changed or damaged"):
        _train(settings, checkpoint=tmp_path / "run")


def test_the_estimator_takes_up_and_its_model_forgets_where(tmp_path):
    options = {"tolerance": 0.2, "rounds": 1}
    whole = CuriosityGameClassifier(**options).fit(VIEWS, DATA.Y)
    model = CuriosityGameClassifier(checkpoint=str(tmp_path / "run"), **options).fit(VIEWS, DATA.Y)
    again = CuriosityGameClassifier(checkpoint=str(tmp_path / "run"), decoder="macro", n_jobs=2, **options)
    again.fit(VIEWS, DATA.Y)  # neither threads nor the decoder are part of the training
    for other in (model, again):
        assert np.array_equal(whole.predict_proba(VIEWS), other.predict_proba(VIEWS))
    save_model(Model(model), tmp_path / "model")
    assert load_model(tmp_path / "model").classifier.get_params() == whole.get_params()
    with pytest.raises(FolderError, match=r"regularization was 0\.3 and is 2"):
        CuriosityGameClassifier(checkpoint=str(tmp_path / "run"), C=2, **options).fit(VIEWS, DATA.Y)
    with pytest.raises(ValueError, match="checkpoint must be the name of a folder"):
        CuriosityGameClassifier(checkpoint=5).fit(VIEWS, DATA.Y)


_CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
import test_checkpoint as t
from pathlib import Path
t._train(t.SETTINGS, checkpoint=Path(sys.argv[1]), on_progress=lambda *r: t.time.sleep(0.1))
"""


@pytest.mark.slow
def test_a_killed_training_ends_the_same(tmp_path):
    whole, run = _train(), tmp_path / "run"
    command = [sys.executable, "-c", _CHILD, str(run), str(Path(__file__).parent)]
    for turn in range(4):
        with subprocess.Popen(command) as child:
            deadline = time.monotonic() + 120
            while not (run / f"turn-{turn:06d}").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert (run / f"turn-{turn:06d}").exists()
    _assert_same(whole, _train(checkpoint=run))
