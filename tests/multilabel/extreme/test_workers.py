"""Nodes are solved by threads, by processes or by a cluster: the same to the bit, whoever dies."""

import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.extreme import node, workers
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.extreme.node import NodeProblem, TreeSettings
from evenhand.multilabel.extreme.payoffs import paid

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module

DATA = make_long_tail(600, 120, 300, seed=4)


def fitted(**options):
    return ExtremeGameClassifier(leaf_size=8, branching=4, **options).fit(DATA.X, DATA.Y)


def assert_same(one, other):
    for player, player_too in zip(one.players_, other.players_, strict=True):
        for level, level_too in zip(player.levels, player_too.levels, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(level.parts, level_too.parts, strict=True))


@dataclass(frozen=True)
class DiesOnce(NodeProblem):
    """Kills the process that solves it, if no other has been killed yet."""

    grave: Path | None = None

    def solve(self):
        if not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().solve()


class DiesAlways(NodeProblem):
    def solve(self):
        os.kill(os.getpid(), signal.SIGKILL)


def problems(kind, n):
    settings = TreeSettings()
    payoffs = paid(DATA.Y, np.zeros(120)).tocsc()
    return [kind.of(DATA.X, np.arange(600), payoffs[:, [at, at + 1]], settings) for at in range(0, 2 * n, 2)]


def test_processes_give_the_same_as_threads():
    with joblib.parallel_config(backend="loky"):
        assert_same(fitted(n_jobs=2), fitted())


def test_a_worker_is_killed_and_nothing_is_lost_or_doubled(tmp_path):
    """One of two processes dies in the middle."""
    wanted = [problem.solve() for problem in problems(NodeProblem, 20)]
    given = problems(NodeProblem, 20)
    given[9] = replace(problems(DiesOnce, 10)[9], grave=tmp_path / "died")
    with joblib.parallel_config(backend="loky"):
        found = list(workers.solve_all(range(20), given.__getitem__, n_jobs=2))
    assert (tmp_path / "died").exists()
    assert sorted(number for number, _ in found) == list(range(20))
    for number, block in found:
        assert np.array_equal(block.value, wanted[number].value)
        assert np.array_equal(block.bias, wanted[number].bias)


def test_it_gives_up_where_workers_go_on_dying(monkeypatch):
    monkeypatch.setattr(workers, "_ATTEMPTS", 2)
    given = problems(DiesAlways, 2)
    with joblib.parallel_config(backend="loky"), pytest.raises(BrokenProcessPool, match="terminated"):
        list(workers.solve_all(range(2), given.__getitem__, n_jobs=2))


@pytest.mark.slow
def test_two_hosts_of_a_cluster_one_of_which_is_killed():
    """Dask's own workers; the one that is killed has problems in hand."""
    distributed = pytest.importorskip("distributed", reason="pip install 'evenhand[hosts]' has it")
    given, found = problems(NodeProblem, 50), {}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        victim, _ = client.run(os.getpid).values()
        for number, block in workers.solve_all(range(50), given.__getitem__, n_jobs=2):
            assert number not in found
            found[number] = block
            if len(found) == 5:
                os.kill(victim, signal.SIGKILL)
        assert victim not in client.run(os.getpid).values()
        model = fitted(n_jobs=2)
    assert found.keys() == set(range(50))
    assert all(np.array_equal(block.value, given[at].solve().value) for at, block in found.items())
    assert_same(model, fitted())


def test_a_problem_is_no_larger_than_its_instances():
    """What a worker is sent holds only the features that the node's instances use."""
    payoffs = paid(DATA.Y, np.zeros(120)).tocsc()
    rows = np.arange(5)
    problem = node.NodeProblem.of(DATA.X, rows, payoffs[:5][:, [0, 1]].tocsc(), TreeSettings())
    assert problem.rows.shape == (5, len(np.unique(DATA.X[:5].indices)))
    assert (DATA.X[:5][:, problem.features] != problem.rows).nnz == 0
