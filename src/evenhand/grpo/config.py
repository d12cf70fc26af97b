"""What `LambdaGRPOTrainer` can be asked for, and which options cannot go together."""

import math
from dataclasses import dataclass, field

from trl import GRPOConfig, GRPOTrainer

from evenhand.grpo.preference import is_finite_number, is_finite_pair

FORMS = ("lambda", "power")
"""Weights that have a λ."""
FIXED_SCHEMES = ("delta_l", "balanced")
"""Weights that have none, and that TRL lacks."""
_GROUPINGS = ("prompt", "micro_batch")
_SIGNALS = ("surrogate", "look_ahead")
_BASE_LOSSES = ("dapo", "cispo", "vespo")  # TRL's losses that divide by the tokens of the whole batch


@dataclass
class LambdaGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`LambdaGRPOTrainer`]: TRL's [`~trl.GRPOConfig`], with more values of
    `loss_type` and the options of λ.

    With [`~trl.TrlParser`] or [`~transformers.HfArgumentParser`] this class becomes command line arguments
    and keys of a YAML file.

    Parameters:
        loss_type (`str`, *optional*, defaults to `"lambda"`):
            How the token losses of a batch are put together. TRL's own values (`"grpo"`, `"dapo"`,
            `"dr_grpo"`, `"bnpo"`, `"luspo"`, `"cispo"`, `"sapo"`, `"vespo"`) do what they do in TRL. Further
            values:

            - `"lambda"` (default): each response of a group of G has the weight f = G·softmax(h^λ), where h
              is 1 + r·z and z its standardised length. Introduced in the [λ-GRPO
              paper](https://huggingface.co/papers/2510.06870). λ = 0 is `"dapo"` exactly.
            - `"power"`: f = G·softmax(λ·log(|o|/μ)). This project's own form: `"dapo"` exactly at λ = 0, and
              GRPO up to a scale per group at λ = -1.
            - `"delta_l"`: a response's summed loss has a weight in proportion to |o|^-`delta_l_exponent`.
              Introduced in the [ΔL Normalization paper](https://huggingface.co/papers/2509.07558).
            - `"balanced"`: token means over the responses of positive and of negative advantage in a group,
              each weighted by the number of its responses.

        > Parameters that control the token preference (`loss_type="lambda"` and `"power"`)

        lambda_start (`float`, *optional*, defaults to `0.0`):
            λ at the start. λ > 0 favours long responses, λ < 0 short ones. The [λ-GRPO
            paper](https://huggingface.co/papers/2510.06870) starts at 0.
        lambda_fixed (`bool`, *optional*, defaults to `False`):
            Whether λ stays at `lambda_start` instead of being learned.
        lambda_learning_rate (`float`, *optional*, defaults to `0.1`):
            Learning rate of λ's own SGD (no momentum, no decay). The code of the [λ-GRPO
            paper](https://huggingface.co/papers/2510.06870) uses 0.01 to 0.1; `"power"` can use 1. With
            `lambda_signal="look_ahead"` it is the most that λ moves in a step.
        lambda_bounds (`list[float]`, *optional*, defaults to `[-3.0, 3.0]`):
            Lowest and highest λ that learning may reach, as in the code of the [λ-GRPO
            paper](https://huggingface.co/papers/2510.06870). λ is projected to them after each step. They do
            not bind a fixed λ.
        lambda_pull (`float`, *optional*, defaults to `0.0`):
            κ of the penalty (κ/2)·λ² that pulls λ towards 0. This project's own: for most groups the
            surrogate is monotone in λ, so that λ can otherwise run to a bound.
        lambda_r (`float`, *optional*, defaults to `1/9`):
            r in h = 1 + r·z of `loss_type="lambda"`, as in the [λ-GRPO
            paper](https://huggingface.co/papers/2510.06870). Must be less than √G/(G-1) for groups of G, so
            that h > 0, unless `lambda_clamp=True`.
        lambda_clamp (`bool`, *optional*, defaults to `False`):
            Whether h is clamped at 1e-6 from below where `lambda_r` is too large for the group. How many were
            is logged as `preference/clamped_bases`.
        lambda_signal (`str`, *optional*, defaults to `"surrogate"`):
            What λ climbs: `"surrogate"`, the policy's own objective, as in the [λ-GRPO
            paper](https://huggingface.co/papers/2510.06870); or `"look_ahead"`, this project's own, what the
            last update of the policy did, by way of λ, to the reward of the next batch: the inner product of
            the next batch's policy gradient, in which no response has a weight, with the derivative by λ of
            the optimiser's step. λ climbs the cosine of the two, since the inner product's scale is that of
            gradients times learning rate and differs from run to run. Costs two further backward passes a
            micro-batch and three float32 numbers a trained parameter (one between steps). Needs torch's AdamW
            or SGD, `num_iterations=1`, and parameters that are whole on each process (no DeepSpeed, no FSDP).
        lambda_base_loss (`str`, *optional*, defaults to `"dapo"`):
            TRL's loss whose terms get the weights: `"dapo"`, or `"cispo"` or `"vespo"`, which share its
            normalisation, but need `lambda_fixed=True`: their value is no surrogate of the reward that λ
            could climb.
        lambda_group_by (`str`, *optional*, defaults to `"prompt"`):
            Among which responses lengths are compared and weights shared out: `"prompt"`, the group of a
            prompt, as in the [λ-GRPO paper](https://huggingface.co/papers/2510.06870); or `"micro_batch"`, a
            replica of the authors' public runs and for nothing else. There the mean and deviation of lengths
            and the softmax are over whatever stands in a micro-batch, and each process has a λ of its own.
            The loss then depends on the micro-batch size and the number of processes. A checkpoint keeps the
            λ of the main process, from which all processes resume.

        > Parameters that control the other schemes

        delta_l_exponent (`float`, *optional*, defaults to `1.0`):
            α in the weights |o|^-α of `loss_type="delta_l"`. The [ΔL Normalization
            paper](https://huggingface.co/papers/2509.07558) uses 1 and 0.75.

        > Parameters that control dynamic sampling, with any `loss_type`

        dynamic_sampling_rounds (`int`, *optional*, defaults to `0`):
            How often at most a generation is followed by another that replaces its groups without spread of
            reward by groups of other prompts, drawn at random. Groups that are still flat then stay; 0 turns
            it off. Introduced in the [DAPO paper](https://huggingface.co/papers/2503.14476), where it goes on
            until no group is flat. Needs a training set with rows, text only, and rewards that are scaled
            within their group.
    """

    loss_type: str = field(
        default="lambda",
        metadata={
            "help": "How the token losses of a batch are put together: 'lambda' (the weights of the λ-GRPO "
            "paper), 'power' (weights in proportion to |o|^λ), 'delta_l', 'balanced', or one of TRL's own: "
            "'grpo', 'dapo', 'dr_grpo', 'bnpo', 'luspo', 'cispo', 'sapo', 'vespo'."
        },
    )
    lambda_start: float = field(
        default=0.0,
        metadata={"help": "λ at the start; 0 is DAPO, λ > 0 favours long responses, λ < 0 short ones."},
    )
    lambda_fixed: bool = field(
        default=False, metadata={"help": "Whether λ stays at `lambda_start` instead of being learned."}
    )
    lambda_learning_rate: float = field(default=0.1, metadata={"help": "Learning rate of λ's own SGD."})
    lambda_bounds: list[float] = field(
        default_factory=lambda: [-3.0, 3.0],
        metadata={"help": "Lowest and highest λ that learning may reach. They do not bind a fixed λ."},
    )
    lambda_pull: float = field(
        default=0.0, metadata={"help": "κ of the penalty (κ/2)·λ² that pulls λ towards 0; 0 turns it off."}
    )
    lambda_r: float = field(
        default=1 / 9,
        metadata={
            "help": "r in h = 1 + r·z of `loss_type='lambda'`. Must be less than √G/(G-1) for groups of G, "
            "unless `lambda_clamp` is set."
        },
    )
    lambda_clamp: bool = field(
        default=False,
        metadata={
            "help": "Whether h is clamped at 1e-6 from below where `lambda_r` is too large for the group."
        },
    )
    lambda_signal: str = field(
        default="surrogate",
        metadata={
            "help": "What λ climbs: 'surrogate', the policy's own objective, or 'look_ahead', what the last "
            "update of the policy did, by way of λ, to the reward of the next batch."
        },
    )
    lambda_base_loss: str = field(
        default="dapo",
        metadata={
            "help": "TRL's loss whose terms get the weights: 'dapo', or, with `lambda_fixed`, 'cispo' or "
            "'vespo'."
        },
    )
    lambda_group_by: str = field(
        default="prompt",
        metadata={
            "help": "Among which responses lengths are compared: 'prompt', or 'micro_batch', a replica of "
            "the authors' public runs (statistics over the micro-batch, a λ for each process)."
        },
    )
    delta_l_exponent: float = field(
        default=1.0, metadata={"help": "α in the weights |o|^-α of `loss_type='delta_l'`."}
    )
    dynamic_sampling_rounds: int = field(
        default=0,
        metadata={
            "help": "How often at most a generation is followed by another that replaces its groups without "
            "spread of reward; 0 turns it off."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_type in FORMS:
            self._check_lambda()
            self._check_base_loss()
            self._check_signal()
        if self.loss_type == "lambda":
            self._check_r()
        if self.loss_type == "delta_l" and not 0 <= self.delta_l_exponent < math.inf:
            raise ValueError(
                f"delta_l_exponent ({self.delta_l_exponent}) must be a finite number from 0; the paper "
                "uses 1 and 0.75."
            )
        self._check_dynamic_sampling()

    def _check_lambda(self) -> None:
        """Refuse a λ that cannot start or move."""
        for name in ("lambda_start", "lambda_learning_rate", "lambda_pull"):
            if not is_finite_number(getattr(self, name)):
                raise ValueError(f"{name} ({getattr(self, name)!r}) must be a finite number.")
        bounds = self.lambda_bounds
        if not (is_finite_pair(bounds) and bounds[0] < bounds[1]):
            raise ValueError(
                f"lambda_bounds ({bounds!r}) must be two finite numbers, the lower one first, like -3 3."
            )
        low, high = bounds
        if not self.lambda_fixed and not low <= self.lambda_start <= high:
            raise ValueError(
                f"lambda_start ({self.lambda_start}) must lie within lambda_bounds ({low}, {high}). Widen "
                "lambda_bounds, or set lambda_fixed=True to keep λ where it starts."
            )
        if not self.lambda_fixed and self.lambda_learning_rate <= 0:
            raise ValueError(
                f"lambda_learning_rate ({self.lambda_learning_rate}) must be positive. Set lambda_fixed=True "
                "to keep λ where it starts."
            )
        if self.lambda_pull < 0:
            raise ValueError(f"lambda_pull ({self.lambda_pull}) must not be negative. 0 turns the pull off.")
        if self.lambda_group_by not in _GROUPINGS:
            raise ValueError(
                f"lambda_group_by ({self.lambda_group_by!r}) must be one of {', '.join(_GROUPINGS)}."
            )

    def _check_base_loss(self) -> None:
        """Refuse a loss that the weights cannot go into, or whose value λ cannot climb."""
        if self.lambda_base_loss not in _BASE_LOSSES:
            raise ValueError(
                f"lambda_base_loss ({self.lambda_base_loss!r}) must be one of {', '.join(_BASE_LOSSES)}: "
                "only these divide by the tokens of the whole batch, as the weights f need it."
            )
        if self.lambda_base_loss != "dapo" and not self.lambda_fixed:
            raise ValueError(
                f"lambda_base_loss={self.lambda_base_loss!r} cannot go with a learned λ: the value of that "
                "loss is A·log π times a detached ratio, no surrogate of the reward, so that its derivative "
                "by λ means nothing. Set lambda_fixed=True, or lambda_base_loss='dapo'."
            )
        if self.use_liger_kernel and hasattr(GRPOTrainer, "compute_liger_loss"):
            raise ValueError(
                f"use_liger_kernel=True cannot go with loss_type={self.loss_type!r}: in this version of TRL "
                "a fused kernel then computes the loss, past the weights. Set use_liger_kernel=False."
            )

    def _check_signal(self) -> None:
        """Refuse what look-ahead cannot differentiate, or what would have it look back."""
        if self.lambda_signal not in _SIGNALS:
            raise ValueError(f"lambda_signal ({self.lambda_signal!r}) must be one of {', '.join(_SIGNALS)}.")
        if self.lambda_signal == "surrogate":
            return
        reentrant = self.gradient_checkpointing and (self.gradient_checkpointing_kwargs or {}).get(
            "use_reentrant"
        )
        for found, option, why, mend in (
            (
                self.lambda_group_by != "prompt",
                f"lambda_group_by={self.lambda_group_by!r}",
                "it is a replica of runs that had none",
                "lambda_group_by='prompt'",
            ),
            (
                self.lambda_base_loss != "dapo",
                f"lambda_base_loss={self.lambda_base_loss!r}",
                "the value of that loss is no surrogate of the reward",
                "lambda_base_loss='dapo'",
            ),
            (
                self.num_iterations != 1,
                f"num_iterations={self.num_iterations}",
                "the next batch would often be the same one again",
                "num_iterations=1",
            ),
            (self.fp16, "fp16=True", "its gradients are scaled, and steps are left out", "bf16=True"),
            (
                self.torch_compile,
                "torch_compile=True",
                "a compiled model goes back once a forward pass, not three times",
                "torch_compile=False",
            ),
            (
                reentrant,
                "gradient checkpointing with use_reentrant",
                "it gives no gradients apart from the loss's",
                "gradient_checkpointing_kwargs={'use_reentrant': False}",
            ),
        ):
            if found:
                raise ValueError(
                    f"{option} cannot go with lambda_signal='look_ahead': {why}. Set {mend}, or "
                    "lambda_signal='surrogate'."
                )

    def _check_r(self) -> None:
        """Refuse an r with which h = 1 + r·z can reach 0: |z| is at most (G-1)/√G."""
        if not 0 < self.lambda_r < math.inf:
            raise ValueError(f"lambda_r ({self.lambda_r}) must be positive and finite. The paper's is 1/9.")
        if self.lambda_group_by == "prompt":
            size, of = max(self.num_generations, self.num_generations_eval or 0), "num_generations"
        else:
            size, of = self.per_device_train_batch_size, "per_device_train_batch_size"
            if self.eval_strategy != "no":
                size = max(size, self.per_device_eval_batch_size)
        limit = math.sqrt(size) / (size - 1) if size > 1 else math.inf
        if self.lambda_r >= limit and not self.lambda_clamp:
            raise ValueError(
                f"lambda_r ({self.lambda_r:.6g}) must be less than √G/(G-1) = {limit:.6g} for groups of G = "
                f"{size} responses, since h = 1 + r·z can reach 0 otherwise. Lower lambda_r or {of}, or set "
                "lambda_clamp=True."
            )

    def _check_dynamic_sampling(self) -> None:
        """Refuse advantages that hang together over groups: groups of two generations do not mix then."""
        if self.dynamic_sampling_rounds < 0:
            raise ValueError(
                f"dynamic_sampling_rounds ({self.dynamic_sampling_rounds}) must not be negative. 0 turns it "
                "off."
            )
        if not self.dynamic_sampling_rounds:
            return
        if self.scale_rewards == "batch":
            raise ValueError(
                "scale_rewards='batch' cannot go with dynamic_sampling_rounds: each generation would be "
                "scaled by a deviation of its own. Set scale_rewards='group' or 'none'."
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"multi_objective_aggregation={self.multi_objective_aggregation!r} cannot go with "
                "dynamic_sampling_rounds: it normalises over a whole generation. Set 'sum_then_normalize'."
            )
