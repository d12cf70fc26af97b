"""Dynamic sampling on TRL: groups whose rewards are all alike are replaced by groups of other prompts.

Such a group has no advantage and teaches nothing, yet its tokens count in the mean. DAPO (arXiv:2503.14476)
generates until the batch holds none; here that ends after a bound of rounds. TRL scores groups over all
processes at once, so all processes see the same advantages, find the same groups flat, and ask TRL for the
same number of further rows. What comes back is gathered, since a group and the place it goes to may stand on
different processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import Tensor
from trl import GRPOTrainer

FLAT = 1e-3
"""A group is flat where its advantages differ by less. Rounding of equal rewards stays below."""

_LEFT = ("prompt_ids", "prompt_mask")  # padded on the left, all else on the right
_IDS = ("prompt_ids", "completion_ids")
_ROWS = (
    *_LEFT,
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "advantages",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)


def flat_groups(advantages: Tensor) -> Tensor:
    """Which groups have no spread of reward.

    Parameters
    ----------
    advantages : Tensor, shape (P, G), floating

    Returns
    -------
    Tensor, shape (P,), bool

    Examples
    --------
    >>> flat_groups(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
    tensor([False,  True])
    """
    return advantages.amax(dim=1) - advantages.amin(dim=1) < FLAT


def replace_rows(
    batch: Mapping[str, Any], other: Mapping[str, Any], at: Tensor, taken: Tensor, *, pad_token: int
) -> dict[str, Any]:
    """Put rows of another generation into a batch, padded to whichever is wider.

    Parameters
    ----------
    batch, other : mapping of str to Tensor
        As TRL scores them: shape (B,) or (B, T), prompts padded on the left, completions on the right. What
        has no rows (`num_items_in_batch`) is passed on from `batch`.
    at : Tensor, shape (R,), integer
        Rows of `batch` that are replaced.
    taken : Tensor, shape (R,), integer
        Rows of `other` that replace them.
    pad_token : int

    Returns
    -------
    dict
        New tensors; `batch` stays as it is.

    Raises
    ------
    ValueError
        Something else than tokens stands in the batch, such as images.

    Examples
    --------
    >>> batch = {"completion_ids": torch.tensor([[5, 6], [7, 0]])}
    >>> other = {"completion_ids": torch.tensor([[8, 8, 8]])}
    >>> replace_rows(batch, other, torch.tensor([1]), torch.tensor([0]), pad_token=0)
    {'completion_ids': tensor([[5, 6, 0],
            [8, 8, 8]])}
    """
    check_rows(batch)
    replaced = dict(batch)
    for name, rows in row_tensors(batch).items():
        new = other[name].to(rows.device)
        if rows.dim() == 2:
            width = max(rows.shape[1], new.shape[1])
            rows, new = (_widen(name, x, width, pad_token) for x in (rows, new))
        replaced[name] = rows.index_copy(0, at.to(rows.device), new[taken.to(rows.device)])
    return replaced


def row_tensors(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What has a row for each response, by name in alphabetical order, the same in all processes."""
    return {name: batch[name] for name in sorted(_ROWS) if name in batch}


def check_rows(batch: Mapping[str, Any]) -> None:
    """Refuse a batch whose rows hold more than tokens.

    Raises
    ------
    ValueError
        Names what it is.
    """
    unknown = sorted(set(batch) - {*_ROWS, "num_items_in_batch"})
    if unknown:
        raise ValueError(
            f"dynamic_sampling_rounds cannot go with {', '.join(unknown)} in a batch: only text can be put "
            "from one generation into another. Set dynamic_sampling_rounds=0."
        )


def padding_of(name: str, pad_token: int) -> int:
    """What pads a tensor of a scored batch, as TRL does."""
    if name in _IDS:
        return pad_token
    return 1 if name == "tool_mask" else 0


def _widen(name: str, rows: Tensor, width: int, pad_token: int) -> Tensor:
    missing = width - rows.shape[1]
    sides = (missing, 0) if name in _LEFT else (0, missing)
    return torch.nn.functional.pad(rows, sides, value=padding_of(name, pad_token))


class DynamicSamplingTrainer(GRPOTrainer):
    """TRL's trainer with `args.dynamic_sampling_rounds`; `LambdaGRPOTrainer` builds on it.

    Logged at each generation: `dynamic_sampling/resampled`, groups that were replaced;
    `dynamic_sampling/left`, flat groups that stayed; `dynamic_sampling/rounds`. TRL's own figures of rewards
    and completions are means over all rounds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.dynamic_sampling_rounds and not hasattr(self.train_dataset, "__len__"):
            raise ValueError(
                f"dynamic_sampling_rounds ({self.args.dynamic_sampling_rounds}) draws further prompts from "
                "train_dataset, which is a stream. Give a data set with rows, or set it to 0."
            )

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        columns = list(inputs[0])  # TRL may add to them
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training and self.args.dynamic_sampling_rounds:
            check_rows(output)
            output = self._without_flat_groups(output, columns)
        return output

    def _without_flat_groups(self, output: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        """Replace flat groups, as far as the rounds go."""
        flat = flat_groups(self.accelerator.gather(output["advantages"]).view(-1, self.num_generations)).cpu()
        first, rounds = int(flat.sum()), 0
        while flat.any() and rounds < self.args.dynamic_sampling_rounds:
            fresh = super()._generate_and_score_completions(self._draw(int(flat.sum()), columns))
            fresh = self._gathered(fresh)
            good = ~flat_groups(fresh["advantages"].view(-1, self.num_generations)).cpu()
            output = self._replace(output, fresh, flat, good)
            rounds += 1
        tokens = output["completion_mask"] * output.get("tool_mask", 1)
        output["num_items_in_batch"] = self.accelerator.gather(tokens.sum()).sum()
        metrics, left = self._metrics["train"], int(flat.sum())
        metrics["dynamic_sampling/resampled"].append(first - left)
        metrics["dynamic_sampling/left"].append(left)
        metrics["dynamic_sampling/rounds"].append(rounds)
        return output

    def _draw(self, n_groups: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """This process's rows of at least so many further prompts: as many as all processes can share."""
        size, n_processes = self.num_generations, self.accelerator.num_processes
        n_groups += -n_groups % (n_processes // math.gcd(size, n_processes))
        n_prompts = len(self.train_dataset)
        chosen = torch.randperm(n_prompts).repeat(-(-n_groups // n_prompts))[:n_groups]
        # Each process has a random state of its own, and checkpoints keep them; the main process's is taken.
        chosen = broadcast(chosen.to(self.accelerator.device)).cpu().repeat_interleave(size)
        mine = chosen.view(n_processes, -1)[self.accelerator.process_index]
        rows = [self.train_dataset[int(row)] for row in mine]
        return [{column: row[column] for column in columns} for row in rows]

    def _gathered(self, output: dict[str, Any]) -> dict[str, Tensor]:
        """The rows of all processes."""
        gathered = {}
        for name, rows in row_tensors(output).items():
            if rows.dim() == 2:
                rows = self.accelerator.pad_across_processes(
                    rows,
                    dim=1,
                    pad_index=padding_of(name, self._tokenizer.pad_token_id),
                    pad_first=name in _LEFT,
                )
            gathered[name] = self.accelerator.gather(rows)
        return gathered

    def _replace(
        self, output: dict[str, Any], fresh: dict[str, Tensor], flat: Tensor, good: Tensor
    ) -> dict[str, Any]:
        """Put good fresh groups where flat ones are, and strike these off `flat`."""
        size = self.num_generations
        groups = good.nonzero().squeeze(1)[: int(flat.sum())]
        places = flat.nonzero().squeeze(1)[: len(groups)]
        flat[places] = False
        within = torch.arange(size)
        taken, at = ((x[:, None] * size + within).flatten() for x in (groups, places))
        n_mine = len(output["advantages"])
        at = at - self.accelerator.process_index * n_mine
        mine = (at >= 0) & (at < n_mine)
        return replace_rows(output, fresh, at[mine], taken[mine], pad_token=self._tokenizer.pad_token_id)
