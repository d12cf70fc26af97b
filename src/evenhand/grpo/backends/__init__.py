"""Where completions come from: transformers, vLLM, or a server that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from evenhand.grpo.generations import Prompt

BackendName: TypeAlias = Literal["transformers", "vllm", "server"]


@dataclass(frozen=True)
class Decoding:
    """How a completion is drawn.

    Parameters
    ----------
    temperature : float
        0 takes the likeliest token.
    top_p : float
        In (0, 1].
    max_new_tokens : int
    """

    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True)
class Completion:
    """One answer of a model.

    Parameters
    ----------
    text : str
        Without special tokens.
    tokens : int
        Its length with its end token.
    finish : str
        "stop" at its own end, "length" at the longest allowed; or what else a server says.
    """

    text: str
    tokens: int
    finish: str


class Backend(Protocol):
    """What the evaluation needs of a back end."""

    def complete(
        self, prompts: Sequence[Prompt], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion a prompt, in their order.

        Parameters
        ----------
        prompts : sequence of str or list of messages, length B
        decoding : Decoding
        seeds : sequence of int, length B
            The same prompts with the same seeds give the same completions, as far as the back end can.

        Returns
        -------
        list of Completion, length B
        """
        ...


def open_backend(
    name: BackendName, model: str, *, server: str | None, concurrency: int, timeout: float
) -> Backend:
    """The back end of this name, with the model loaded.

    Parameters
    ----------
    name : {"transformers", "vllm", "server"}
    model : str
        Its folder or name; with a server, the name that it is served by.
    server : str or None
        The server's address.
    concurrency, timeout
        Of a server: requests at a time, seconds that one may take.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If the back end is not installed, or its options cannot be used.
    """
    if name == "server":
        from evenhand.grpo.backends.server import ServerBackend

        if server is None:
            raise ValueError("a server's address is missing; give --server URL")
        return ServerBackend(server, model, concurrency=concurrency, timeout=timeout)
    if name == "vllm":
        from evenhand.grpo.backends.vllm_engine import VLLMBackend

        return VLLMBackend(model)
    from evenhand.grpo.backends.local import TransformersBackend

    return TransformersBackend(model)


def has_chat_template(name: BackendName, model: str) -> bool:
    """Whether a model can be asked by messages, without loading it; of a server that is taken as given."""
    if name == "server":
        return True
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model).chat_template is not None
