"""λ-GRPO in verl: the advantage estimator `lambda_grpo`, and a callback that keeps λ in verl's checkpoints.

How it works. verl finds this module by its entry point, and the module puts the estimator into verl's
registry. The estimator runs in verl's driver, which holds the whole batch and each row's prompt (`uid`): it
takes GRPO's advantages and multiplies them by the weights f(o_i; λ), worked out over whole prompt groups. The
clipped surrogate is homogeneous in the advantage, and `loss_agg_mode="token-mean"` divides by the tokens of
the whole mini-batch over all processes, so that verl's loss becomes that of λ-GRPO, while the KL and entropy
terms of the loss stay as they are.

λ then takes one step a batch. Its gradient is the one on the policy that generated the batch: there every
ratio is 1 and no term is clipped, so S_i = |o_i| A_i in closed form. The surrogate that the workers compute
later, mini-batch by mini-batch, never comes back to the driver. With one mini-batch and one epoch a batch
(`ppo_mini_batch_size` = `train_batch_size`, `ppo_epochs` = 1) this is the gradient of verl's loss; with more
the policy takes several steps for one of λ.

Without verl the module can be imported and the mathematics used; the estimator then says what is missing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evenhand.grpo.aggregation import (
    SMALLEST_BASE,
    Form,
    length_bases,
    preference_gradient,
    preference_slopes,
    preference_weights,
    standardised_lengths,
)
from evenhand.grpo.diagnostics import (
    NEARLY_DAPO,
    advantage_length_correlation,
    informative_fraction,
    mean_spread,
    weight_figures,
)
from evenhand.grpo.lambda_state import read_state, write_state
from evenhand.grpo.preference import LearnablePreference, is_finite_number, is_finite_pair

logger = logging.getLogger(__name__)

NAME = "lambda_grpo"
"""The estimator's name (`algorithm.adv_estimator`), and that of its options (`algorithm.lambda_grpo`)."""
LOG_FILE = "lambda_grpo.jsonl"
_CALLBACK = f"trainer.checkpoint_callback_class={__name__}.LambdaGRPO"


@dataclass(frozen=True)
class LambdaOptions:
    """What can be set under `algorithm.lambda_grpo`, with the names of `LambdaGRPOConfig` less `lambda_`.

    Attributes
    ----------
    form : {"lambda", "power"}
        The paper's weights, or ours in proportion to |o|^λ.
    start : float
        λ before the first step; 0 is DAPO.
    fixed : bool
        Keep λ at `start`.
    learning_rate, pull : float
        η and κ of `LearnablePreference`.
    bounds : (float, float)
        Between which λ is learned.
    r, clamp
        Of `aggregation.length_bases`.

    Examples
    --------
    >>> LambdaOptions.read({"form": "power", "learning_rate": 1}).learning_rate
    1.0
    """

    form: Form = "lambda"
    start: float = 0.0
    fixed: bool = False
    learning_rate: float = 0.1
    bounds: tuple[float, float] = (-3.0, 3.0)
    pull: float = 0.0
    r: float = 1 / 9
    clamp: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> LambdaOptions:
        """Check options as they stand in verl's configuration.

        Parameters
        ----------
        options : mapping, optional
            `algorithm.lambda_grpo`.

        Returns
        -------
        LambdaOptions

        Raises
        ------
        ValueError
            Options that are no mapping; one that is unknown, of the wrong type or out of its range, by its
            name in verl's configuration.
        """
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise ValueError(
                f"algorithm.{NAME} is {options!r:.80}; give options by name, like {{form: power}}"
            )
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name in options:
            if name not in kinds:
                raise ValueError(f"algorithm.{NAME} has no option {name!r}; it has {', '.join(kinds)}")
        read = cls(**{name: _as(kinds[name], name, value) for name, value in options.items()})
        read.preference()
        if not read.r > 0:
            raise ValueError(f"algorithm.{NAME}.r is {read.r}; give a number > 0 (the paper's is 1/9)")
        return read

    def preference(self) -> LearnablePreference:
        """λ at its start.

        Raises
        ------
        ValueError
            An option that is out of its range.
        """
        low, high = self.bounds
        if self.fixed:
            low, high = min(low, self.start), max(high, self.start)
        try:
            return LearnablePreference(
                self.form, self.start, 0.0 if self.fixed else self.learning_rate, (low, high), self.pull
            )
        except ValueError as error:
            raise ValueError(f"algorithm.{NAME}: {error}") from error


@dataclass(frozen=True)
class WeightedBatch:
    """What `weigh` makes of a batch.

    Attributes
    ----------
    weights : Tensor, shape (B,)
        f(o_i; λ).
    gradient : Tensor, shape ()
        ∂J/∂λ on-policy.
    figures : dict of str to float
        What the TRL trainer logs too, under the same names.
    """

    weights: Tensor
    gradient: Tensor
    figures: dict[str, float]


def weigh(
    preference: LearnablePreference,
    lengths: Tensor,
    sums: Tensor,
    groups: Sequence[Hashable],
    *,
    r: float = 1 / 9,
    clamp: bool = False,
) -> WeightedBatch:
    """The weights of a whole batch, and λ's on-policy gradient.

    Parameters
    ----------
    preference : LearnablePreference
        Read, not moved.
    lengths : Tensor, shape (B,), whole numbers ≥ 0
        |o_i|, tokens in the loss. A row without any does not count.
    sums : Tensor, shape (B,), floating
        S_i = |o_i| A_i, with A_i not yet weighted.
    groups : sequence of length B
        Whatever names a row's prompt, as verl's `uid`. Rows come in any order, groups in any size.
    r, clamp
        As in `aggregation.length_bases`.

    Returns
    -------
    WeightedBatch

    Raises
    ------
    ValueError
        Shapes that differ; lengths that are no whole numbers; an r too large for the largest group without
        `clamp`.

    Notes
    -----
    arXiv:2510.06870: J = 1/N Σ_i f(o_i) S_i with N tokens, and ∂J/∂λ = 1/N Σ_i S_i ∂f_i/∂λ [P]. It depends
    neither on the order of rows nor on how they are split afterwards.

    Examples
    --------
    >>> lengths, advantages = torch.tensor([10, 30]), torch.tensor([-1.0, 1.0])
    >>> batch = weigh(LearnablePreference("power"), lengths, lengths * advantages, ["a", "a"])
    >>> batch.weights, batch.gradient
    (tensor([1., 1.]), tensor(0.5493))
    """
    if not len(lengths) == len(sums) == len(groups):
        raise ValueError(f"{len(lengths)} lengths, {len(sums)} sums and {len(groups)} groups; give one a row")
    seen: dict[Hashable, int] = {}
    ids = torch.tensor([seen.setdefault(group, len(seen)) for group in groups])
    rows = lengths > 0
    bases = length_bases(preference.form, lengths, ids, r=r, clamp=clamp, counted=rows)
    by_group = _ByGroup.of(ids)
    h, counted = by_group.lay_out(bases, padding=1.0), by_group.lay_out(rows)
    weights = preference_weights(preference.form, h, preference.value, counted=counted)
    slopes = preference_slopes(preference.form, h, preference.value, counted=counted)
    gradient = preference_gradient(by_group.lay_out(sums), slopes, lengths.sum())
    spread = mean_spread(h, counted)  # |o|/μ is 1 + (σ/μ)·z, so that σ/μ stands where the paper's form has r
    advantages = by_group.lay_out(sums / lengths.clamp(min=1))
    z = by_group.lay_out(standardised_lengths(lengths, ids, counted=rows))
    figures = {
        "preference/lambda": float(preference.value),
        "preference/r_lambda": float(preference.value) * (r if preference.form == "lambda" else spread),
        "preference/gradient": float(gradient),
        "preference/advantage_length_corr": advantage_length_correlation(advantages, z, counted),
        "preference/clamped_bases": float((h <= SMALLEST_BASE).sum()),
        **weight_figures(weights, by_group.lay_out(lengths), counted),
        "preference/informative_groups": informative_fraction(advantages, by_group.lay_out(lengths), counted),
    }
    return WeightedBatch(by_group.collect(weights), gradient, figures)


class LambdaAdvantage:
    """verl's advantage estimator `lambda_grpo`: GRPO's advantages times f(o_i; λ), and then a step of λ.

    verl calls it once a batch, in its driver. Its options stand in verl's configuration under
    `algorithm.lambda_grpo`, see `LambdaOptions`.

    Attributes
    ----------
    preference : LearnablePreference or None
        λ; None before `start`, or the first batch.
    figures : dict of str to float
        Of the latest batch. λ, f and ∂J/∂λ are those of the policy's gradient in it.

    Examples
    --------
    >>> estimator = LambdaAdvantage()
    >>> estimator.start(LambdaOptions(start=0.5))
    >>> estimator.preference.value
    tensor(0.5000)
    """

    def __init__(self) -> None:
        self.preference: LearnablePreference | None = None
        self.figures: dict[str, float] = {}
        self._options = LambdaOptions()
        self._log: Path | None = None
        self._largest_r_lambda = 0.0

    @property
    def nearly_dapo(self) -> bool:
        """Whether |r·λ| has stayed so small that the run is DAPO in all but name."""
        return self._largest_r_lambda < NEARLY_DAPO

    def start(self, options: LambdaOptions, log: Path | None = None) -> None:
        """Begin a run, whatever was before.

        Parameters
        ----------
        options : LambdaOptions
        log : Path, optional
            JSON lines that each batch's figures are appended to.
        """
        self.preference, self._options, self._log = options.preference(), options, log
        self.figures, self._largest_r_lambda = {}, 0.0

    def __call__(
        self,
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Sequence[Hashable] | None = None,
        config: Any = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """Advantages of a whole batch, as verl asks for them.

        Parameters
        ----------
        token_level_rewards : Tensor, shape (B, T), floating
        response_mask : Tensor, shape (B, T)
            1 on tokens in the loss. A row without any, as verl's padding, counts nowhere.
        index : sequence of length B
            Each row's `uid`.
        config : mapping
            verl's `algorithm`.

        Returns
        -------
        advantages : Tensor, shape (B, T), dtype of the rewards
            A_i f(o_i; λ) on the response's tokens.
        returns : Tensor, shape (B, T)
            A_i, so that verl's log shows both.

        Raises
        ------
        ImportError
            verl is not installed.
        ValueError
            No `uid`; an option that does not fit; NaN or infinity in the rewards, by its row.
        """
        grpo = _grpo_advantages()
        if index is None:
            raise ValueError(f"{NAME} needs each row's prompt: the batch has no `uid`")
        _check_rewards(token_level_rewards, index)
        config = {} if config is None else config
        preference = self.preference or self._start_unsaved(config)
        advantages, returns = grpo(
            token_level_rewards,
            response_mask,
            index,
            norm_adv_by_std_in_grpo=config.get("norm_adv_by_std_in_grpo", True),
        )
        batch = weigh(
            preference,
            response_mask.sum(dim=1).cpu(),
            advantages.sum(dim=1).cpu(),
            index,
            r=self._options.r,
            clamp=self._options.clamp,
        )
        preference.accumulate(batch.gradient)
        preference.step()
        self._note(batch.figures)
        return advantages * batch.weights.to(advantages)[:, None], returns

    def _start_unsaved(self, config: Any) -> LearnablePreference:
        options = LambdaOptions.read(config.get(NAME, None))
        if not options.fixed:
            logger.warning(
                f"λ is learned but not kept: verl's checkpoints will not hold it, and a resumed run would "
                f"start again from {options.start:g}. Add {_CALLBACK}"
            )
        self.start(options)
        assert self.preference is not None
        return self.preference

    def _note(self, figures: dict[str, float]) -> None:
        self.figures = figures
        self._largest_r_lambda = max(self._largest_r_lambda, abs(figures["preference/r_lambda"]))
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(figures) + "\n")


ESTIMATOR = LambdaAdvantage()
"""The one that verl's registry holds. verl runs one trainer a process."""


class LambdaGRPO:
    """verl's checkpoint callback for `lambda_grpo`: checks the configuration, keeps λ, writes the log.

    verl makes it before it loads a checkpoint (`trainer.checkpoint_callback_class`). λ stands in each
    checkpoint's `global_step_N/lambda_state.json` and is taken from the one that verl resumes from; each
    batch's figures go to `lambda_grpo.jsonl` in `trainer.default_local_dir`.

    Parameters
    ----------
    config : mapping
        verl's whole configuration.

    Raises
    ------
    ValueError
        An option or another setting under which the weights would do something else; a checkpoint to resume
        from that is not named, or has no λ.
    """

    def __init__(self, config: Any) -> None:
        _check_verl_config(config)
        folder = Path(config.trainer.default_local_dir).absolute()
        ESTIMATOR.start(LambdaOptions.read(config.algorithm.get(NAME, None)), folder / LOG_FILE)
        resumed = _resumed_folder(config.trainer)
        if resumed is not None and ESTIMATOR.preference is not None:
            read_state(
                ESTIMATOR.preference,
                resumed,
                mend="the checkpoint was written without this callback. Resume with the adv_estimator that "
                "it was written with, or start anew from its weights (trainer.resume_mode=disable).",
            )

    def on_save(
        self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **_: Any
    ) -> None:
        """Write λ beside what verl has just saved.

        Parameters
        ----------
        trainer, global_step, async_save
            Not used.
        checkpoint_dir : str
        """
        assert ESTIMATOR.preference is not None
        write_state(ESTIMATOR.preference, checkpoint_dir)
        if ESTIMATOR.figures and ESTIMATOR.nearly_dapo:
            logger.warning(
                f"So far this run is in effect DAPO: |r·λ| has stayed below {NEARLY_DAPO}. For weights that "
                f"matter raise algorithm.{NAME}.learning_rate or set start; λ acts more in form=power."
            )


def _check_rewards(token_level_rewards: Tensor, index: Sequence[Hashable]) -> None:
    rewards = token_level_rewards.sum(dim=1)
    bad = (~rewards.isfinite()).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"{NAME}: the reward of row {row} of the batch (uid {index[row]!r}) is {float(rewards[row])}; "
            "mend the reward function, so that it gives a finite number for each response"
        )


def _check_verl_config(config: Any) -> None:
    estimator = config.algorithm.adv_estimator
    if estimator != NAME:
        raise ValueError(
            f"algorithm.adv_estimator is {estimator!r}, so λ would have no effect; set it to {NAME}, or "
            "leave out trainer.checkpoint_callback_class"
        )
    actor = config.actor_rollout_ref.actor
    if actor.loss_agg_mode != "token-mean":
        raise ValueError(
            f"actor_rollout_ref.actor.loss_agg_mode is {actor.loss_agg_mode!r}; the weights of {NAME} are "
            "made for 'token-mean'; set it so"
        )
    loss = actor.get("policy_loss", {}).get("loss_mode", "vanilla")
    if loss == "sapo":
        raise ValueError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode is 'sapo', which passes loss_agg_mode over; "
            f"{NAME} needs one that keeps 'token-mean', like 'vanilla'"
        )


def _resumed_folder(trainer: Any) -> Path | None:
    """The checkpoint that verl is going to resume from, by verl's own rules."""
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        if not trainer.resume_from_path:
            raise ValueError(
                "trainer.resume_mode is 'resume_path', but trainer.resume_from_path is not given; give the "
                "checkpoint's folder, or set trainer.resume_mode=disable"
            )
        return Path(trainer.resume_from_path).absolute()
    from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

    latest = find_latest_ckpt_path(os.path.abspath(trainer.default_local_dir))
    return None if latest is None else Path(latest)


@dataclass(frozen=True)
class _ByGroup:
    """Rows (B,) to one row a group (P, G), padded, and back."""

    order: Tensor  # (B,) rows, group after group
    sizes: list[int]

    @classmethod
    def of(cls, ids: Tensor) -> _ByGroup:
        return cls(torch.argsort(ids, stable=True), torch.bincount(ids).tolist())

    def lay_out(self, values: Tensor, padding: float = 0.0) -> Tensor:
        parts = torch.split(values[self.order], self.sizes)
        return pad_sequence(list(parts), batch_first=True, padding_value=padding)

    def collect(self, values: Tensor) -> Tensor:
        inside = torch.arange(values.shape[1]) < torch.tensor(self.sizes)[:, None]
        rows = torch.empty(len(self.order), dtype=values.dtype)
        rows[self.order] = values[inside]
        return rows


def _as(kind: type, name: str, value: Any) -> Any:
    """A value of YAML as an option's type."""
    if kind is float and is_finite_number(value):
        return float(value)
    if kind is tuple and is_finite_pair(value):
        return float(value[0]), float(value[1])
    if kind in (bool, str) and isinstance(value, kind):
        return value
    wanted = {
        float: "a finite number",
        tuple: "two finite numbers, like [-3, 3]",
        bool: "true or false",
        str: "text",
    }
    raise ValueError(f"algorithm.{NAME}.{name} is {value!r:.80}; give {wanted[kind]}")


def _grpo_advantages() -> Callable[..., tuple[Tensor, Tensor]]:
    try:
        from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    except ImportError as error:
        raise ImportError(
            f"the estimator {NAME} needs verl ≥ 0.9 ({error}); install it, or train with TRL and "
            "evenhand.grpo.LambdaGRPOTrainer"
        ) from error
    found: Callable[..., tuple[Tensor, Tensor]] = compute_grpo_outcome_advantage
    return found


def _register() -> None:
    """Put the estimator into verl's registry, where there is a verl."""
    try:
        from verl.trainer.ppo.core_algos import register_adv_est
    except ImportError as error:
        if error.name != "verl":  # verl itself would pass over this in silence
            logger.warning(f"verl does not get evenhand's estimator {NAME}: {error}")
        return
    register_adv_est(NAME)(ESTIMATOR)


_register()
