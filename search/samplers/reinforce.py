"""REINFORCE with a moving-average baseline (Zhang, Eq. 8–10, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.compression.layers import anatomy
from search.samplers.base import Observation
from search.samplers.policy import Policy
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint


class Reinforce:
    """The GRU agent as a sampler.

    One batch of N proposals is one batch of N episodes; being told their rewards is one step of
    plain gradient ascent (Eq. 10).

    Under a size limit the policy is sampled until a proposal fits, so what is learnt is the
    policy given that the limit is kept. The gradient of the probability of fitting is left out:
    it multiplies R − b, whose mean the baseline keeps near 0.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        learning_rate: float = 1e-4,
        units: int = 64,
        baseline_decay: float = 0.9,
    ) -> None:
        self.space = space
        self.states = torch.from_numpy(anatomy(space.teacher).states())
        self.masks = torch.from_numpy(space.masks)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = Policy(self.states.amax(0), len(space.moves.pool), units)
        self.generator = torch.Generator().manual_seed(seed)
        self.learning_rate, self.baseline_decay = learning_rate, baseline_decay
        self.baseline: float | None = None
        # candidates to propose first, and those of them that are out
        self.queue: list[Actions] = []
        self.given: list[Actions] = []

    def begin_with(self, candidates: Sequence[Actions]) -> None:
        """They are no episodes of the policy: nothing is learnt from them."""
        self.queue += candidates

    def propose(self, count: int) -> list[Actions]:
        """Episodes from the present policy."""
        first, self.queue = self.queue[:count], self.queue[count:]
        self.given += first
        own = count - len(first)
        return first + [self.space.within_limit(self._episode) for _ in range(own)]

    def tell(self, observations: Sequence[Observation]) -> None:
        """One update with the N episodes of a batch."""
        own = []
        for observation in observations:
            if observation.actions in self.given:
                self.given.remove(observation.actions)
            else:
                own.append(observation)
        if own:
            self.update(
                [observation.actions for observation in own],
                [observation.reward for observation in own],
            )

    def update(self, proposals: Sequence[Actions], rewards: Sequence[float]) -> None:
        """One step along Eq. 9's gradient (Eq. 10)."""
        b = self.update_baseline(rewards)
        advantage = torch.tensor([reward - b for reward in rewards])
        objective = (self.log_probability(proposals) * advantage).mean()
        gradients = torch.autograd.grad(objective, list(self.policy.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(self.policy.parameters(), gradients, strict=True):
                parameter.add_(self.learning_rate * gradient)

    def update_baseline(self, rewards: Sequence[float]) -> float:
        """Give b for this batch, an average of the rewards *before* it, then take these in.

        The first batch has no rewards before it; its own mean stands in.
        """
        mean = sum(rewards) / len(rewards)
        used = mean if self.baseline is None else self.baseline
        for reward in rewards:
            past = mean if self.baseline is None else self.baseline
            self.baseline = self.baseline_decay * past + (1 - self.baseline_decay) * reward
        return used

    def warm(self, evidence: Sequence[Observation]) -> int:
        """None of it: Eq. 9 holds for episodes of the present policy alone."""
        return 0

    def save(self) -> Checkpoint:
        """The policy's weights, the generator's state and the baseline."""
        arrays = {
            f"policy.{name}": value.detach().numpy().copy()
            for name, value in self.policy.state_dict().items()
        }
        arrays["generator"] = self.generator.get_state().numpy()
        queued = {"queue": self.queue, "given": self.given}
        return Checkpoint(arrays, {"baseline": self.baseline} | queued)

    def restore(self, checkpoint: Checkpoint) -> None:
        arrays = {name: torch.from_numpy(value) for name, value in checkpoint.arrays.items()}
        try:
            self.policy.load_state_dict(
                {name: arrays[f"policy.{name}"] for name in self.policy.state_dict()}
            )
            self.generator.set_state(arrays["generator"])
        except RuntimeError as error:
            raise ValueError(f"no checkpoint of this agent: {error}") from None
        self.baseline = checkpoint.meta["baseline"]
        self.queue, self.given = (
            [tuple(actions) for actions in checkpoint.meta.get(name, [])]
            for name in ("queue", "given")
        )

    def log_probability(self, proposals: Sequence[Actions]) -> Tensor:
        """Σ_t log π(a_t | s_t, a_{t−1}, …) of every episode, shape (N,)."""
        actions = torch.tensor(proposals)
        start = torch.full((len(actions), 1), self.policy.pool_size)
        previous = torch.cat([start, actions[:, :-1]], 1)
        states = self.states.expand(len(actions), -1, -1)
        masks = self.masks.expand(len(actions), -1, -1)
        log_pi, _ = self.policy(states, previous, masks)
        return log_pi.gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _episode(self) -> Actions:
        """Play the environment once."""
        env = self.space.env
        observation, info = env.reset()
        previous, memory = self.policy.pool_size, None
        taken: list[int] = []
        for _ in env.layers:
            log_pi, memory = self.policy(
                torch.from_numpy(observation).view(1, 1, -1),
                torch.tensor([[previous]]),
                torch.from_numpy(info["action_mask"]).view(1, 1, -1),
                memory,
            )
            previous = int(
                torch.multinomial(log_pi[0, 0].exp(), 1, generator=self.generator).item()
            )
            taken.append(previous)
            observation, _, _, _, info = env.step(previous)
        return tuple(taken)
