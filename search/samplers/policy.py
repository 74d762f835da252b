"""The agent's policy: a two-layer GRU that reads a network layer by layer (Zhang, section IV-B).

At step t it sees the state s_t and the previous action, as the paper's text says (Algorithm 1's
π(s_{t−1}) is a slip), and gives one logit per coefficient; illegal ones are masked out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.compression.layers import TYPES


class Policy(nn.Module):
    """π_θ over the coefficient pool."""

    def __init__(self, scale: Tensor, pool_size: int, units: int) -> None:
        """Set up the network.

        Args:
            scale: (5,), largest value of every field of the state (l, k, d, p, o).
            pool_size: number of coefficients.
            units: of each GRU layer.
        """
        super().__init__()
        self.pool_size = pool_size
        self.scale: Tensor
        self.register_buffer("scale", scale.clamp_min(1))
        # type one-hot, the other four fields scaled, previous action one-hot with "none yet"
        inputs = TYPES + 4 + pool_size + 1
        self.gru = nn.GRU(inputs, units, num_layers=2, batch_first=True)
        self.head = nn.Linear(units, pool_size)

    def forward(
        self, states: Tensor, previous: Tensor, mask: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the actions.

        Args:
            states: (B, T, 5), as the environment observes them.
            previous: (B, T) int64, action before each step; ``pool_size`` where there is none.
            mask: (B, T, pool_size), 1 = legal.
            memory: hidden state after the steps before, None at the start.

        Returns:
            (B, T, pool_size) log-probabilities, −inf where illegal, and the new memory.
        """
        kind = torch.nn.functional.one_hot(states[..., 0].long() - 1, TYPES)
        rest = states[..., 1:] / self.scale[1:]
        before = torch.nn.functional.one_hot(previous, self.pool_size + 1)
        hidden, memory = self.gru(torch.cat([kind.float(), rest, before.float()], -1), memory)
        logits = self.head(hidden).masked_fill(mask == 0, -torch.inf)
        return torch.log_softmax(logits, -1), memory
