"""λ-GRPO on TRL: `LambdaGRPOConfig`, and `LambdaGRPOTrainer`, TRL's trainer with a weight on each response.

How it works. TRL scores whole groups, then shuffles and splits the rows. So, while groups are whole, each row
is given its group's bases (h, or |o|/μ) and its own place among them; shuffling and splitting then do no
harm. Just before TRL's loss the advantages are multiplied by the weights f(o_i; λ): the clipped surrogate is
homogeneous in the advantage, so that this weights the surrogate and leaves the KL term and the entropy bonus
alone. The loss's derivative by these advantages holds S_i, each response's part of the surrogate, and so,
with ∂f/∂λ in closed form, ∂J/∂λ. With `lambda_signal="look_ahead"` the gradients of both by the policy are
gathered as well (`look_ahead`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from accelerate.logging import get_logger
from torch import Tensor
from trl import GRPOTrainer

from evenhand.grpo.aggregation import (
    SMALLEST_BASE,
    length_bases,
    preference_gradient,
    preference_slopes,
    preference_weights,
    response_weights,
    standardised_lengths,
)
from evenhand.grpo.config import FIXED_SCHEMES, FORMS, LambdaGRPOConfig
from evenhand.grpo.diagnostics import (
    NEARLY_DAPO,
    advantage_length_correlation,
    informative_fraction,
    mean_spread,
    weight_figures,
)
from evenhand.grpo.dynamic_sampling import DynamicSamplingTrainer
from evenhand.grpo.lambda_state import read_last_update, read_state, write_last_update, write_state
from evenhand.grpo.look_ahead import LookAhead, check_optimizer
from evenhand.grpo.preference import LearnablePreference

logger = get_logger(__name__)

_MOSTLY = 0.9


@dataclass(frozen=True)
class _Groups:
    """Groups of responses; every tensor is (P, G), on the CPU."""

    bases: Tensor
    lengths: Tensor
    counted: Tensor


class LambdaGRPOTrainer(DynamicSamplingTrainer):
    """
    Trainer for λ-GRPO, introduced in [λ-GRPO: Unifying the GRPO Frameworks with Learnable Token
    Preferences](https://huggingface.co/papers/2510.06870): TRL's [`~trl.GRPOTrainer`] with a weight on each
    response.

    λ is no parameter of the model: what walks the model (vLLM, FSDP, DeepSpeed, PEFT, `save_pretrained`)
    never meets it. It is one fp32 number, the same in each process, that moves where gradients are
    synchronised, and that stands in a checkpoint's folder as `lambda_state.json`.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            As in [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            As in [`~trl.GRPOTrainer`].
        args ([`LambdaGRPOConfig`], *optional*):
            Configuration. If `None`, the defaults are used.
        more, kwargs:
            As in [`~trl.GRPOTrainer`].

    Attributes:
        preference ([`LearnablePreference`] or `None`):
            λ and its SGD; `None` where `loss_type` has no λ.
        look_ahead ([`LookAhead`] or `None`):
            The last update's derivative by λ; `None` without `lambda_signal="look_ahead"`.

    Logged through TRL, and so wherever `report_to` says. Each optimiser step: `preference/lambda`,
    `preference/r_lambda` (|r·λ| < 0.02 is DAPO in effect; r is the mean of σ/μ for `loss_type="power"`),
    `preference/gradient` (∂J/∂λ), `preference/weight_min`, `preference/weight_max` and
    `preference/weight_std` of f, `preference/longest_quarter_share` (of the weighted tokens). With
    `lambda_signal="look_ahead"` also `preference/look_ahead` (∂Ĵ/∂λ of the step before, 0 at the first) and
    `preference/look_ahead_cosine`, which λ climbs instead of `preference/gradient`. Each
    generation: `preference/advantage_length_corr`, `preference/informative_groups`,
    `preference/clamped_bases`. λ, f and ∂J/∂λ of a step are those of the policy's gradient in it; λ after the
    last step is `trainer.preference.value`. With `dynamic_sampling_rounds`, each generation:
    `dynamic_sampling/resampled`, `dynamic_sampling/left` (flat groups that stayed) and
    `dynamic_sampling/rounds`.

    Example:

    ```python
    trainer = LambdaGRPOTrainer(
        model="Qwen/Qwen2.5-0.5B",
        reward_funcs=reward,
        args=LambdaGRPOConfig(output_dir="run", loss_type="lambda"),
        train_dataset=dataset,
    )
    trainer.train()
    ```
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: LambdaGRPOConfig | None = None,
        *more: Any,
        **kwargs: Any,
    ) -> None:
        args = LambdaGRPOConfig() if args is None else args
        if not isinstance(args, LambdaGRPOConfig):
            raise TypeError(
                f"args must be a LambdaGRPOConfig, not a {type(args).__name__}. It takes all of GRPOConfig's "
                "options."
            )
        asked = args.loss_type
        self._has_weights = asked in (*FORMS, *FIXED_SCHEMES)
        if self._has_weights:
            # What TRL computes, and checks its other options against; `args` keeps what was asked for.
            args.loss_type = args.lambda_base_loss if asked in FORMS else "dapo"
            self._tag_names = [*GRPOTrainer._tag_names, f"{asked}-grpo".replace("_", "-")]
        try:
            super().__init__(model, reward_funcs, args, *more, **kwargs)
        finally:
            args.loss_type = asked
        self.preference = _make_preference(args) if asked in FORMS else None
        self._has_slope = self.preference is not None and self.loss_type == "dapo"
        self._by_prompt = self.preference is None or args.lambda_group_by == "prompt"
        self.look_ahead = self._make_look_ahead() if self.preference is not None else None
        self._groups: _Groups  # what the weights of the current step are shared out in
        self._micro_batches: list[_Groups] = []
        self._loss_was_weighted = False
        self._largest_r_lambda = 0.0
        self._warned: set[str] = set()
        if not self._by_prompt:
            self._warn_once(
                "replica",
                "lambda_group_by='micro_batch' is a replica of the authors' public runs: lengths are "
                "compared within a micro-batch instead of a prompt's group, and each process has a λ of its "
                "own. The result depends on the micro-batch size and the number of processes. λ-GRPO as "
                "published is lambda_group_by='prompt'.",
            )

    def _make_look_ahead(self) -> LookAhead | None:
        if self.args.lambda_signal == "surrogate":
            return None
        kind = self.accelerator.distributed_type.value
        if kind != "NO" and not kind.startswith("MULTI_"):
            raise ValueError(
                f"{kind} cannot go with lambda_signal='look_ahead', which needs parameters and gradients "
                "that are whole on each process. Train with plain data parallelism, or set "
                "lambda_signal='surrogate'."
            )
        return LookAhead({name: p for name, p in self.model.named_parameters() if p.requires_grad})

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As in TRL; an error before the first step where look-ahead cannot differentiate it."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.look_ahead is not None:
            check_optimizer(optimizer)
        return optimizer

    # Scoring: groups are whole here.

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._has_weights:
            self._join_groups(output)
        return output

    def _join_groups(self, output: dict[str, Any]) -> None:
        """Give each row its whole group, from the lengths and advantages of all processes."""
        # On the CPU from here on: a few numbers a response, which the loss checks without waiting for a GPU.
        lengths = self.accelerator.gather(_lengths(output)).cpu()
        advantages = self.accelerator.gather(output["advantages"]).cpu()
        counted = lengths > 0  # TRL empties the mask of a truncated completion that is not to count
        size = self.num_generations if self.model.training else self.num_generations_eval
        if self.model.training:
            self._log_generation(*(x.view(-1, size) for x in (advantages, lengths, counted)))
        if not self._by_prompt:
            return
        rows = torch.arange(len(lengths))
        bases = self._bases(lengths, advantages, rows // size, counted).view(-1, size)
        groups = _Groups(bases, lengths.view(-1, size), counted.view(-1, size))
        n_mine = len(output["advantages"])
        mine = rows[self.accelerator.process_index * n_mine :][:n_mine]
        output["group_bases"] = groups.bases[mine // size]
        output["group_counted"] = groups.counted[mine // size]
        output["group_place"] = mine % size
        if self.model.training:
            self._groups = groups
            self._log_clamped(groups)

    def _join_micro_batch(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give each row of a micro-batch all of it as its group, as the authors' public runs do."""
        lengths = _lengths(inputs).cpu()
        counted, rows = lengths > 0, torch.arange(len(lengths))
        bases = self._bases(lengths, inputs["advantages"], torch.zeros_like(rows), counted)
        if self.model.training:
            self._micro_batches.append(_Groups(bases[None], lengths[None], counted[None]))
        return {
            **inputs,
            "group_bases": bases.expand(len(rows), -1),
            "group_counted": counted.expand(len(rows), -1),
            "group_place": rows,
        }

    def _bases(self, lengths: Tensor, advantages: Tensor, group_ids: Tensor, counted: Tensor) -> Tensor:
        """What the weights are made of: h or |o|/μ, or the weights themselves where there is no λ; (B,)."""
        args = self.args
        if self.preference is not None:
            return length_bases(
                self.preference.form,
                lengths,
                group_ids,
                r=args.lambda_r,
                clamp=args.lambda_clamp,
                counted=counted,
            )
        return response_weights(
            args.loss_type,
            lengths,
            group_ids,
            advantages=advantages,
            exponent=args.delta_l_exponent,
            counted=counted,
        )

    def _weights(self, bases: Tensor, counted: Tensor) -> Tensor:
        """f of whole groups, one row a group."""
        if self.preference is None:
            return bases
        return preference_weights(self.preference.form, bases, self.preference.value, counted=counted)

    # The loss: rows are shuffled and split here, and each has its group with it.

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """TRL's loss; an error where it was computed without the weights."""
        self._loss_was_weighted = False
        loss: Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._has_weights and not self._loss_was_weighted:
            raise ValueError(
                f"loss_type={self.args.loss_type!r} had no effect: TRL's GRPOTrainer is patched so that its "
                "loss does not come from `_compute_loss`. Leave out the patch (unsloth, a Liger loss), or "
                "choose one of TRL's own values of loss_type."
            )
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if not self._has_weights:
            plain: Tensor = super()._compute_loss(model, inputs)
            return plain
        self._loss_was_weighted = True
        if not self._by_prompt:
            inputs = self._join_micro_batch(inputs)
        advantages = inputs["advantages"]
        weights = _of_each_row(self._weights(inputs["group_bases"], inputs["group_counted"]), inputs)
        weighted = advantages * weights.to(advantages.device)
        weighted.requires_grad_(self._has_slope and torch.is_grad_enabled())
        loss: Tensor = super()._compute_loss(model, {**inputs, "advantages": weighted})
        if weighted.requires_grad and self.preference is not None:
            # The surrogate is homogeneous in the advantage, and nothing else in the loss depends on it: so
            # -A·∂loss/∂(f·A) is S_i over the tokens that TRL divides this process's loss by. The way from the
            # loss to the advantages passes no layer of the model: it costs a few products of (B, T).
            (by_weighted,) = torch.autograd.grad(
                loss, weighted, retain_graph=True, create_graph=self.look_ahead is not None
            )
            self._add_gradient(self.preference, -advantages * by_weighted, inputs)
        return loss

    def _add_gradient(self, preference: LearnablePreference, sums: Tensor, inputs: dict[str, Any]) -> None:
        """Add a micro-batch's part of ∂J/∂λ."""
        slopes = preference_slopes(
            preference.form, inputs["group_bases"], preference.value, counted=inputs["group_counted"]
        )
        slopes = _of_each_row(slopes, inputs).to(sums.device)
        # The policy's gradients are averaged over processes, λ's are summed.
        share = self.accelerator.num_processes if preference.over_processes else 1
        preference.accumulate(preference_gradient(sums, slopes, share))
        if self.look_ahead is not None:
            with torch.autocast(sums.device.type, enabled=False):  # each layer goes back as it went forward
                self.look_ahead.add(sums.sum(), (sums * slopes).sum())

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """TRL's step; λ moves where the gradients of the policy are synchronised."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self._has_weights and self.accelerator.sync_gradients:
            if not self._by_prompt:
                self._groups, self._micro_batches = _together(self._micro_batches), []
                self._log_clamped(self._groups)
            self._log_weights()
            if self.preference is not None:
                self._move(self.preference)
        return loss

    def _move(self, preference: LearnablePreference) -> None:
        """Move λ by the gradient of the whole step, over all processes."""
        metrics, value = self._metrics["train"], float(preference.value)
        if preference.form == "lambda":
            r = self.args.lambda_r
        else:  # |o|/μ is 1 + (σ/μ)·z
            r = mean_spread(self._groups.bases, self._groups.counted)
        self._largest_r_lambda = max(self._largest_r_lambda, abs(r * value))
        metrics["preference/lambda"].append(value)
        metrics["preference/r_lambda"].append(r * value)
        gradient = preference.step(self._look_ahead_cosine())
        if self._has_slope:
            metrics["preference/gradient"].append(float(gradient))

    def _look_ahead_cosine(self) -> Tensor | None:
        """What λ climbs with look-ahead: asked before gradients are clipped and the policy moves."""
        if self.look_ahead is None:
            return None
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)  # Accelerate's wraps torch's
        signal = self.look_ahead.step(optimizer, self.args.max_grad_norm or 0.0)
        self._metrics["train"]["preference/look_ahead"].append(float(signal.slope))
        self._metrics["train"]["preference/look_ahead_cosine"].append(float(signal.cosine))
        return signal.cosine

    # The log.

    def _log_clamped(self, groups: _Groups) -> None:
        if self.preference is None:
            return
        clamped = int((groups.bases <= SMALLEST_BASE).sum())
        self._metrics["train"]["preference/clamped_bases"].append(clamped)
        if clamped:
            self._warn_once(
                "clamped",
                f"h = 1 + r·z was clamped for {clamped} of {int(groups.counted.sum())} responses: lambda_r "
                f"({self.args.lambda_r:.4g}) is too large for groups of {groups.counted.shape[1]}. From here "
                "on `preference/clamped_bases` counts them.",
            )

    def _log_generation(self, advantages: Tensor, lengths: Tensor, counted: Tensor) -> None:
        metrics, size = self._metrics["train"], counted.shape[1]
        ids = torch.arange(counted.numel()) // size
        z = standardised_lengths(lengths.flatten(), ids, counted=counted.flatten()).view(-1, size)
        corr = advantage_length_correlation(advantages, z, counted)
        metrics["preference/advantage_length_corr"].append(corr)
        metrics["preference/informative_groups"].append(informative_fraction(advantages, lengths, counted))
        truncated = metrics["completions/clipped_ratio"][-1:]
        if truncated and truncated[0] > _MOSTLY and not advantages.any():
            self._warn_once(
                "truncated",
                f"{truncated[0]:.0%} of the completions were cut off at max_completion_length "
                f"({self.max_completion_length}) and no group's rewards differ: nothing is learned from such "
                "a generation. Raise max_completion_length, or reward answers that come in time.",
            )

    def _log_weights(self) -> None:
        groups = self._groups
        weights = self._weights(groups.bases, groups.counted)
        for name, figure in weight_figures(weights, groups.lengths, groups.counted).items():
            self._metrics["train"][name].append(figure)

    def _warn_once(self, key: str, message: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            logger.warning(message)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's training, and a word at its end where the weights never mattered."""
        result = super().train(*args, **kwargs)
        if self.preference is not None and self._largest_r_lambda < NEARLY_DAPO:
            self._warn_once(
                "dapo",
                f"This run was in effect DAPO: |r·λ| reached {self._largest_r_lambda:.2g} at most, below "
                f"{NEARLY_DAPO}, so that the weights of most responses were within {NEARLY_DAPO:.0%} of 1. "
                "For weights that matter raise lambda_learning_rate or set lambda_start; λ acts more in "
                "loss_type='power'.",
            )
        return result

    # Checkpoints: with the optimiser's state, so that a folder has both or neither.

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.preference is not None and self.args.should_save:
            write_state(self.preference, output_dir)
            if self.look_ahead is not None:
                write_last_update(self.look_ahead, output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.preference is None or checkpoint is None:
            return
        read_state(
            self.preference,
            checkpoint,
            mend=f"the checkpoint was not written with loss_type={self.args.loss_type!r}. Resume with the "
            "loss_type that it was written with, or start anew from its weights: give the folder as `model`, "
            "not as `resume_from_checkpoint`.",
        )
        if self.look_ahead is not None:
            read_last_update(
                self.look_ahead,
                checkpoint,
                mend="the checkpoint was not written with lambda_signal='look_ahead'. Resume with "
                "lambda_signal='surrogate', or start anew from its weights: give the folder as `model`, not "
                "as `resume_from_checkpoint`.",
            )


def _lengths(rows: dict[str, Any]) -> Tensor:
    """|o_i|: the tokens of each response in the loss, (B,)."""
    lengths: Tensor = (rows["completion_mask"] * rows.get("tool_mask", 1)).sum(dim=1)
    return lengths


def _together(parts: list[_Groups]) -> _Groups:
    """The micro-batches of a step, one a row."""
    return _Groups(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("bases", "lengths", "counted"))
    )


def _of_each_row(of_groups: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Each row's own entry, (B,), of its group's, (B, G)."""
    return of_groups.gather(1, inputs["group_place"][:, None]).squeeze(1)


def _make_preference(args: LambdaGRPOConfig) -> LearnablePreference:
    low, high = args.lambda_bounds
    if args.lambda_fixed:
        low, high = min(low, args.lambda_start), max(high, args.lambda_start)
    return LearnablePreference(
        form=args.loss_type,  # type: ignore[arg-type]
        start=args.lambda_start,
        learning_rate=0.0 if args.lambda_fixed else args.lambda_learning_rate,
        bounds=(low, high),
        pull=args.lambda_pull,
        over_processes=args.lambda_group_by == "prompt",
    )
