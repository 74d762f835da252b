"""The agent in imagined episodes: REINFORCE in the vector environment, paid by a surrogate.

A real episode costs a distillation, an imagined one next to nothing: the cost of a student is
exact, and its accuracy is predicted, with some optimism where the surrogate knows little. So the
policy meets thousands of episodes for every student that is trained. Real candidates with their
true rewards are mixed in, so that the errors of the surrogate do not mislead it for long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.compression.layers import anatomy
from envs.gym.vector import CompressionVectorEnv
from search.samplers.features import Batch
from search.samplers.policy import Policy
from search.space.space import Space

Values = NDArray[np.float64]


@dataclass(frozen=True)
class PolicyTraining:
    """How the policy learns.

    Attributes:
        units: of each GRU layer.
        episodes: imagined ones per update.
        updates: per batch of proposals.
        rate: learning rate of Adam.
        entropy: weight of the policy's entropy, in units of the standardised reward.
        real: weight of the mixed-in real candidates.
        charge: for breaking a limit by a factor of e, taken off log R.
    """

    units: int = 64
    episodes: int = 64
    updates: int = 25
    rate: float = 4e-3
    entropy: float = 0.03
    real: float = 0.3
    charge: float = 10.0


class PolicyTrainer:
    """A policy and the episodes that it dreams."""

    def __init__(self, space: Space, seed: int, settings: PolicyTraining) -> None:
        self.space, self.settings = space, settings
        self._predict: Callable[[Batch], Values] = lambda actions: np.zeros(len(actions))
        self.env = CompressionVectorEnv(
            space.teacher,
            space.moves,
            space.reward,
            lambda actions: self._predict(actions),
            settings.episodes,
            space.latency,
        )
        self.states = torch.from_numpy(anatomy(space.teacher).states())
        self.masks = torch.from_numpy(space.masks)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = Policy(self.states.amax(0), len(space.moves.pool), settings.units)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.Adam(self.policy.parameters(), settings.rate)

    def learn(
        self,
        predict: Callable[[Batch], Values],
        excess: Callable[[Batch], Values],
        real: Batch,
        rewards: Values,
    ) -> None:
        """Dream for a while.

        Args:
            predict: (hopeful) accuracies of action vectors.
            excess: how far they break the limits, 0 where they keep them.
            real: candidates that were distilled, the best ones; may be none.
            rewards: logarithms of their true rewards.
        """
        self._predict = predict
        for _ in range(self.settings.updates):
            actions, paid = self._episodes()
            charged = np.log(np.maximum(paid, 1e-300)) - self.settings.charge * excess(actions)
            self._update(actions, charged, real, rewards)

    def sample(self, count: int) -> Batch:
        """Episodes of the policy, shape (count, layers)."""
        with torch.no_grad():
            drawn = [self._roll() for _ in range(-(-count // self.settings.episodes))]
        found: Batch = np.concatenate(drawn)[:count]
        return found

    def entropy(self) -> float:
        """Mean entropy per free layer of the policy, over what it samples, in nats."""
        state = self.generator.get_state()  # who is looked at goes on as if nobody had looked
        with torch.no_grad():
            log_pi = self._log_pi(torch.from_numpy(self._roll()))
        self.generator.set_state(state)
        per_step = -(log_pi.exp() * log_pi.clamp_min(-1e9)).sum(-1)
        free = self.masks.sum(-1) > 1
        return float(per_step[:, free].mean())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Policy, optimiser and generator, for a checkpoint."""
        found = {
            f"policy.{name}": value.detach().numpy().copy()
            for name, value in self.policy.state_dict().items()
        }
        for place, state in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{place}.{name}": v.numpy().copy() for name, v in state.items()}
        return found | {"generator": self.generator.get_state().numpy()}

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The inverse of :meth:`arrays`.

        Raises:
            ValueError, KeyError: they are none of this policy's.
        """
        try:
            self._take(arrays)
        except RuntimeError as error:
            raise ValueError(f"no checkpoint of this policy: {error}") from None

    def _take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        tensors = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
        self.policy.load_state_dict(
            {name: tensors[f"policy.{name}"] for name in self.policy.state_dict()}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, place, field = name.split(".")
                state.setdefault(int(place), {})[field] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
        self.generator.set_state(tensors["generator"])

    def _episodes(self) -> tuple[Batch, Values]:
        """Play the vector environment once."""
        observations, info = self.env.reset()
        memory: Tensor | None = None
        previous = torch.full((self.settings.episodes, 1), self.policy.pool_size)
        rewards = np.zeros(self.settings.episodes)
        with torch.no_grad():
            for _ in self.env.layers:
                log_pi, memory = self.policy(
                    torch.from_numpy(observations)[:, None],
                    previous,
                    torch.from_numpy(info["action_mask"])[:, None],
                    memory,
                )
                previous = torch.multinomial(log_pi[:, 0].exp(), 1, generator=self.generator)
                observations, rewards, _, _, info = self.env.step(previous[:, 0].numpy())
        return info["actions"], rewards

    def _roll(self) -> Batch:
        """Episodes whose rewards nobody asks for."""
        count = self.settings.episodes
        previous = torch.full((count, 1), self.policy.pool_size)
        memory: Tensor | None = None
        taken = []
        for step in range(len(self.states)):
            log_pi, memory = self.policy(
                self.states[step].expand(count, 1, -1),
                previous,
                self.masks[step].expand(count, 1, -1),
                memory,
            )
            previous = torch.multinomial(log_pi[:, 0].exp(), 1, generator=self.generator)
            taken.append(previous[:, 0])
        found: Batch = torch.stack(taken, 1).numpy()
        return found

    def _log_pi(self, actions: Tensor) -> Tensor:
        start = torch.full((len(actions), 1), self.policy.pool_size)
        previous = torch.cat([start, actions[:, :-1]], 1)
        count = len(actions)
        log_pi: Tensor = self.policy(
            self.states.expand(count, -1, -1), previous, self.masks.expand(count, -1, -1)
        )[0]
        return log_pi

    def _update(self, actions: Batch, rewards: Values, real: Batch, true: Values) -> None:
        """One step of REINFORCE over imagined episodes and real candidates."""
        everyone = torch.from_numpy(np.concatenate([actions, real]) if len(real) else actions)
        log_pi = self._log_pi(everyone)
        taken = log_pi.gather(-1, everyone[..., None])[..., 0].sum(1)
        middle, scale = rewards.mean(), rewards.std() + 1e-6
        advantage = np.clip((rewards - middle) / scale, -3, 3)
        weights = np.full(len(actions), 1 / len(actions))
        if len(real):
            # a real candidate that is better than what the policy dreams of is worth imitating
            better = np.clip((true - middle) / scale, 0, 3)
            advantage = np.concatenate([advantage, better])
            share = self.settings.real / len(real)
            weights = np.concatenate([weights, np.full(len(real), share)])
        gain = (torch.from_numpy(weights * advantage).float() * taken).sum()
        free = self.masks.sum(-1) > 1
        spread = -(log_pi.exp() * log_pi.clamp_min(-1e9)).sum(-1)[: len(actions), free].mean()
        loss = -(gain / max(1, int(free.sum())) ** 0.5 + self.settings.entropy * spread)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimiser.step()
