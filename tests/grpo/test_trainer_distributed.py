import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny

OPTIONS = {"loss_type": "power", "lambda_start": 0.5, "num_iterations": 2, "max_steps": 4}


def run_on_two_ranks(folder, **options):
    """One record a rank: gradients of policy and λ at each step, from 2 processes over gloo on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    outs = [folder / f"rank{rank}.npz" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, tiny.__file__, str(out), json.dumps(options)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    try:
        errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    return [dict(np.load(out)) for out in outs]


@pytest.mark.slow
def test_two_processes_of_32_have_the_gradients_of_one_of_64(tmp_path):
    whole = tiny.record(*tiny.train(tiny.make_config(tmp_path, **OPTIONS)))
    ranks = run_on_two_ranks(tmp_path, **OPTIONS, per_device_train_batch_size=32)
    assert tiny.largest_difference(ranks[0], ranks[1]) == 0.0
    assert abs(whole["0 lambda"]) > 0.01
    assert tiny.largest_difference(whole, ranks[0]) < 1e-6


@pytest.mark.slow
def test_two_processes_look_ahead_as_one_does(tmp_path):
    options = OPTIONS | {"lambda_signal": "look_ahead", "num_iterations": 1, "optim": "adamw_torch"}
    options |= {"learning_rate": 1e-2, "max_grad_norm": 0.1}
    whole = tiny.record(*tiny.train(tiny.make_config(tmp_path, **options)))
    ranks = run_on_two_ranks(tmp_path, **options, per_device_train_batch_size=32)
    assert tiny.largest_difference(ranks[0], ranks[1]) == 0.0
    assert abs(whole["3 look-ahead"]) > 1e-4
    assert tiny.largest_difference(whole, ranks[0]) < 1e-5


@pytest.mark.slow
def test_groups_that_stand_on_two_processes_are_whole(tmp_path):
    """Four rows on each process and groups of eight: no process ever holds a whole group."""
    options = OPTIONS | {"num_iterations": 1, "max_steps": 2}
    one_prompt = {"per_device_train_batch_size": 8, "num_generations": 8}
    whole = tiny.record(*tiny.train(tiny.make_config(tmp_path, **options, **one_prompt)))
    ranks = run_on_two_ranks(tmp_path, **options, **one_prompt | {"per_device_train_batch_size": 4})
    assert tiny.largest_difference(ranks[0], ranks[1]) == 0.0
    assert tiny.largest_difference(whole, ranks[0]) < 1e-6


@pytest.mark.slow
def test_in_the_replica_each_process_has_a_lambda_of_its_own(tmp_path):
    options = {"lambda_group_by": "micro_batch", "lambda_start": 0.5, "max_steps": 2}
    ranks = run_on_two_ranks(tmp_path, **options, per_device_train_batch_size=32)
    lambdas = [float(rank.pop("lambda at the end")) for rank in ranks]
    assert abs(lambdas[0] - lambdas[1]) > 1e-5
    policy = [{name: g for name, g in rank.items() if not name.endswith("lambda")} for rank in ranks]
    assert tiny.largest_difference(*policy) == 0.0


@pytest.mark.slow
def test_two_processes_replace_the_same_flat_groups_as_one(tmp_path):
    """Five groups on two processes: old and new ones stand across both."""
    options = {"dynamic_sampling_rounds": 4, "n_prompts": 30, "max_steps": 1, "lambda_start": 0.5}
    plain = {name: value for name, value in options.items() if name != "n_prompts"}
    args = tiny.make_config(tmp_path, **plain, per_device_train_batch_size=40)
    parts = {"reward_funcs": tiny.half_flat, "train_dataset": tiny.make_dataset(30)}
    trainer, gradients = tiny.train(args, **parts)
    assert tiny.logged(trainer, "dynamic_sampling/resampled") == [3]
    whole = tiny.record(trainer, gradients)
    ranks = run_on_two_ranks(tmp_path, **options, per_device_train_batch_size=20)
    assert tiny.largest_difference(ranks[0], ranks[1]) == 0.0
    assert tiny.largest_difference(whole, ranks[0]) < 1e-6
