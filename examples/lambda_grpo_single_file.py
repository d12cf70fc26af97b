"""λ-GRPO (arXiv:2510.06870) in one file: the algorithm as a specification that runs. Needs torch only.

    python examples/lambda_grpo_single_file.py

Reads from top to bottom: a task, a policy, rollouts, advantages, the clipped surrogate, the weights f_λ, the
closed form of ∂J/∂λ, the training loop, and a run that checks itself: λ = 0 is DAPO to the bit, and in every
update the closed form is what autograd says.

Left out, on purpose: a KL term; micro-batches and processes (a group's statistics must be taken before its
rows are split over them); truncated responses taken out of the loss. One run of a toy says nothing about
which of DAPO and λ-GRPO is better: λ stays so small here that the run is in effect DAPO, as in the logs that
the paper's authors published.
"""

import torch
from torch import Tensor, nn

# The task: given a number n, write digits from 1 to 3 that sum to n, then a stop. Many answers are right,
# short and long ones, so the lengths within a group of responses differ.
STOP, DIGITS, SMALLEST, LARGEST, LONGEST = 0, 3, 4, 9, 12
VOCABULARY = 1 + DIGITS + (LARGEST - SMALLEST + 1)  # the stop, the digits, and one token for each n


def draw_prompts(number: int, generator: torch.Generator) -> Tensor:
    """Return n for each prompt, (P,)."""
    return torch.randint(SMALLEST, LARGEST + 1, (number,), generator=generator)


def reward(n: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return 1 where the digits sum to n and a stop follows, else 0. n (B,), tokens and mask (B, T)."""
    sums = (tokens * mask).sum(dim=1)  # a digit's token is the digit, and the stop's is 0
    stopped = ((tokens == STOP) & mask).any(dim=1)
    return ((sums == n) & stopped).double()


class Policy(nn.Module):
    """π_θ: a GRU over the prompt's token and the response so far."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 1 + DIGITS)

    def log_probabilities(self, n: Tensor, tokens: Tensor) -> Tensor:
        """Return log π_θ(o_t | n, o_<t) of the tokens given, (B, T)."""
        first = 1 + DIGITS + n - SMALLEST
        states, _ = self.gru(self.embed(torch.cat([first[:, None], tokens[:, :-1]], dim=1)))
        logits: Tensor = self.head(states)
        return logits.log_softmax(dim=-1).gather(2, tokens[:, :, None]).squeeze(2)

    @torch.no_grad()
    def sample(self, n: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return one response for each n: tokens (B, T), and a mask (B, T) that ends with the first stop."""
        token, state, drawn = 1 + DIGITS + n - SMALLEST, None, []
        for _ in range(LONGEST):
            output, state = self.gru(self.embed(token)[:, None], state)
            token = torch.multinomial(self.head(output[:, 0]).softmax(dim=-1), 1, generator=generator)[:, 0]
            drawn.append(token)
        tokens = torch.stack(drawn, dim=1)
        stops_before = (tokens == STOP).cumsum(dim=1) - (tokens == STOP).long()
        return tokens, stops_before == 0


# The objective of one prompt with responses o_1 … o_G. Rows of a batch are (P, G), one row a prompt's group:
#     J = 1/N · Σ_i f_λ(o_i) Σ_t ℓ_{i,t},  N = Σ_i |o_i|


def advantages(rewards: Tensor) -> Tensor:
    """A_i = (R_i − mean R)/(std R + ε) over the group; 0 where its rewards are all equal. (P, G) → (P, G)."""
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True) + 1e-4)


def clipped_surrogate(log_p: Tensor, old_log_p: Tensor, advantage: Tensor, epsilon: float = 0.2) -> Tensor:
    """ℓ_{i,t} = min(ρ A_i, clip(ρ, 1−ε, 1+ε) A_i), ρ = π_θ/π_old. (B, T), (B, T), (B,) → (B, T)."""
    ratio, advantage = (log_p - old_log_p).exp(), advantage[:, None]
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


def length_bases(lengths: Tensor, r: float = 1 / 9) -> Tensor:
    """h_i = 1 + r z_i, z_i = (|o_i| − μ)/σ over the group; 1 where σ = 0. (P, G) → (P, G).

    Sure to be positive for r < √G/(G−1).
    """
    deviation = lengths.std(dim=1, keepdim=True).clamp(min=1e-8)
    return 1 + r * (lengths - lengths.mean(dim=1, keepdim=True)) / deviation


def preference(h: Tensor, lam: Tensor) -> Tensor:
    """f_λ(o_i) = G · softmax(h^λ)_i. (P, G) → (P, G), each row with sum G.

    Written as e^g over the mean of e^g, which is exactly 1 where all g are equal, as at λ = 0.
    """
    powers = (h**lam).exp()
    return powers / powers.mean(dim=1, keepdim=True)


def preference_slope(h: Tensor, lam: Tensor) -> Tensor:
    """∂f_i/∂λ = f_i (g_i ln h_i − Σ_j s_j g_j ln h_j), g = h^λ, s = softmax(g). (P, G) → (P, G)."""
    f, inner = preference(h, lam), h**lam * h.log()
    return f * (inner - (f * inner).mean(dim=1, keepdim=True))


def lambda_grpo(surrogate: Tensor, mask: Tensor, f: Tensor) -> Tensor:
    """J with the weights f, (B,), over all groups of the batch, N its tokens. (B, T) → ()."""
    return (f[:, None] * surrogate * mask).sum() / mask.sum()


def dapo(surrogate: Tensor, mask: Tensor) -> Tensor:
    """J of DAPO, the mean over all tokens of the batch. (B, T) → ()."""
    return (surrogate * mask).sum() / mask.sum()


class Run:
    """Train one policy; `learning_rate` is that of λ, and `scheme` "dapo" knows no λ at all."""

    def __init__(self, scheme: str, learning_rate: float, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.scheme, self.learning_rate = scheme, learning_rate
        self.policy, self.generator = Policy(), torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=3e-3)
        self.lam = torch.zeros((), requires_grad=True)  # λ = 0, where the paper starts

    def step(self, prompts: int = 16, group: int = 8, epochs: int = 2) -> dict[str, float]:
        """Sample a batch and ascend J on it; return the figures of the step."""
        n = draw_prompts(prompts, self.generator).repeat_interleave(group)
        tokens, mask = self.policy.sample(n, self.generator)
        rewards = reward(n, tokens, mask).view(prompts, group)
        advantage = advantages(rewards).flatten()
        lengths = mask.sum(dim=1).double().view(prompts, group)
        h = length_bases(lengths)  # constants: λ's gradient goes through the exponent only
        old_log_p = self.policy.log_probabilities(n, tokens).detach()
        for _ in range(epochs):
            surrogate = clipped_surrogate(self.policy.log_probabilities(n, tokens), old_log_p, advantage)
            f = preference(h, self.lam)
            if self.scheme == "dapo":
                objective = dapo(surrogate, mask)
            else:
                objective = lambda_grpo(surrogate, mask, f.flatten())
            self.optimizer.zero_grad()
            self.lam.grad = None
            torch.autograd.backward(-objective)
            self.optimizer.step()
            if self.scheme != "dapo":
                self.move_lambda(surrogate, mask, h)
        return {
            "reward": rewards.mean().item(),
            "length": lengths.mean().item(),
            "lambda": self.lam.item(),
            "f_min": f.min().item(),
            "f_max": f.max().item(),
        }

    def move_lambda(self, surrogate: Tensor, mask: Tensor, h: Tensor) -> None:
        """λ ← clip(λ + η ∂J/∂λ, −3, 3) with ∂J/∂λ = 1/N · Σ_i S_i ∂f_i/∂λ, S_i = Σ_t ℓ_{i,t}.

        Plain SGD, then projection: a clip in the forward pass would stop the gradient at a bound for good.
        """
        sums = (surrogate * mask).sum(dim=1).detach()
        gradient = (sums * preference_slope(h, self.lam.detach()).flatten()).sum() / mask.sum()
        assert self.lam.grad is not None
        torch.testing.assert_close(gradient, -self.lam.grad, rtol=1e-9, atol=1e-12)  # closed form = autograd
        with torch.no_grad():
            self.lam.add_(self.learning_rate * gradient).clamp_(-3, 3)


def check_that_lambda_zero_is_dapo(steps: int = 5) -> None:
    """The same seed, λ kept at 0: every parameter is the same to the bit after some steps."""
    plain, weighted = Run("dapo", 0.0), Run("lambda", 0.0)
    for _ in range(steps):
        assert plain.step() == weighted.step()
    for ours, theirs in zip(weighted.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    print(f"λ = 0 is DAPO to the bit, after {steps} steps of 2 epochs")


def main(steps: int = 90) -> None:
    """Run the checks, then train with λ learned."""
    torch.set_default_dtype(torch.float64)  # so that the checks may be strict
    check_that_lambda_zero_is_dapo()
    run = Run("lambda", learning_rate=0.1)
    for step in range(1, steps + 1):
        figures = run.step()
        if step == 1 or step % 15 == 0:
            print(f"step {step:4d}  " + "  ".join(f"{name} {value:+.4f}" for name, value in figures.items()))
    assert figures["reward"] > 0.6, "the policy should have learnt to sum by now"
    print(f"∂J/∂λ was what autograd says in all {2 * steps} updates; |r λ| = {abs(run.lam.item()) / 9:.4f}")


if __name__ == "__main__":
    main()
