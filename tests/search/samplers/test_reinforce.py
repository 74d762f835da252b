"""Zhang, Eq. 8–10, worked through on paper, and what makes the agent an agent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from search.samplers.reinforce import Reinforce
from search.space.space import Actions, Space

# The toy network has five layers, and the pool is (0 remove, ½ halve, 1 keep). Legal actions:
#   stem   0 1 2   sets the width of its channel group
#   inner  0 1 2   has a group of its own
#   outer  0   2   a later writer of the stem's group, so that ½ would do nothing
#   down   0 1 2
#   head       2   the classifier keeps its outputs
MASKS = [[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]]
A: Actions = (1, 2, 2, 1, 2)
B: Actions = (2, 1, 0, 0, 2)


def agent(space: Space, **options: float) -> Reinforce:
    return Reinforce(space, 0, units=4, **options)


def blank(space: Space, rate: float) -> Reinforce:
    """All weights 0: the GRU says 0, the head its bias alone, and π is uniform over what is legal.

    Then only the bias of the head has a gradient: with respect to the logits of step t that of
    log π(a_t) is 1[a_t] − π_t, and what reaches the other weights is multiplied by 0.
    """
    made = agent(space, learning_rate=rate, baseline_decay=0.9)
    with torch.no_grad():
        for parameter in made.policy.parameters():
            parameter.zero_()
    return made


def weights(made: Reinforce) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in made.policy.named_parameters()}


def test_a_first_update_worked_by_hand(space: Space) -> None:
    assert space.masks.tolist() == MASKS
    made = blank(space, rate=0.1)

    # Σ_t π_t: 1/3 three times where all are legal, 1/2 on two at `outer`, all on "keep" at `head`
    #   = (3·1/3 + 1/2, 3·1/3, 3·1/3 + 1/2 + 1) = (1.5, 1, 2.5)
    # A takes (remove, halve, keep) 0, 2, 3 times: ∇log π(A) = (0, 2, 3) − (1.5, 1, 2.5)
    #   = (−1.5, 1, 0.5)
    # B takes them 2, 1, 2 times:                  ∇log π(B) = (0.5, 0, −0.5)
    # R = (1, 3). No reward came before, so b is their mean, 2, and R − b = (−1, 1).
    # Eq. 9: ½ · (−1·(−1.5, 1, 0.5) + 1·(0.5, 0, −0.5)) = ½ · (2, −1, −1) = (1, −0.5, −0.5)
    # Eq. 10: 0 + 0.1 · (1, −0.5, −0.5)
    made.update([A, B], [1.0, 3.0])

    after = weights(made)
    np.testing.assert_allclose(after.pop("head.bias"), [0.1, -0.05, -0.05], atol=1e-7)
    assert all(not value.any() for value in after.values())


def test_the_baseline_is_an_average_of_the_rewards_before(space: Space) -> None:
    made = blank(space, rate=0.1)
    made.update([A, B], [1.0, 3.0])
    # b starts at 2 and takes in 1, then 3: 0.9·2 + 0.1·1 = 1.9; 0.9·1.9 + 0.1·3 = 2.01
    assert made.baseline == pytest.approx(2.01, abs=1e-12)

    with torch.no_grad():
        made.policy.head.bias.zero_()  # π uniform again, to stay on paper
    # R = (4, 2): R − b = (1.99, −0.01), not a word of the present rewards in b
    # Eq. 9: ½ · (1.99·(−1.5, 1, 0.5) − 0.01·(0.5, 0, −0.5))
    #      = ½ · (−2.985 − 0.005, 1.99, 0.995 + 0.005) = (−1.495, 0.995, 0.5)
    made.update([A, B], [4.0, 2.0])
    np.testing.assert_allclose(made.policy.head.bias.detach(), [-0.1495, 0.0995, 0.05], atol=1e-7)
    # 0.9·2.01 + 0.1·4 = 2.209; 0.9·2.209 + 0.1·2 = 2.1881
    assert made.baseline == pytest.approx(2.1881, abs=1e-12)


def test_one_episode_divides_by_one(space: Space) -> None:
    made = blank(space, rate=1.0)
    made.baseline = 0.0
    made.update([A], [2.0])  # 1/1 · 2 · (−1.5, 1, 0.5)
    np.testing.assert_allclose(made.policy.head.bias.detach(), [-3.0, 2.0, 1.0], atol=1e-6)


def test_equal_rewards_teach_nothing(space: Space) -> None:
    made = agent(space, learning_rate=1.0)
    before = weights(made)
    for _ in range(3):
        made.update(made.propose(4), [0.5] * 4)
    assert made.baseline == pytest.approx(0.5, abs=1e-12)
    for name, value in weights(made).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)


def test_the_probability_learnt_from_is_the_one_drawn_from(space: Space) -> None:
    """Step by step, with the GRU's memory and a_{t−1}, as an episode plays it."""
    made = agent(space)
    memory, previous, total = None, made.policy.pool_size, 0.0
    for step, action in enumerate(A):
        log_pi, memory = made.policy(
            made.states[step].view(1, 1, -1),
            torch.tensor([[previous]]),
            made.masks[step].view(1, 1, -1),
            memory,
        )
        total += log_pi[0, 0, action].item()
        previous = action
    assert made.log_probability([A]).item() == pytest.approx(total, abs=1e-5)


def test_the_policy_sees_the_action_before(space: Space) -> None:
    made = agent(space)
    states = made.states[1].view(1, 1, -1)
    said = [
        made.policy(states, torch.tensor([[previous]]), made.masks[1].view(1, 1, -1))[0]
        for previous in (0, 2, made.policy.pool_size)
    ]
    assert not torch.allclose(said[0], said[1], atol=1e-4)
    assert not torch.allclose(said[0], said[2], atol=1e-4)


def test_what_is_illegal_has_no_probability_and_no_gradient(space: Space) -> None:
    made = agent(space)
    log_pi, _ = made.policy(
        made.states[None], torch.tensor([[3, *A[:-1]]]), made.masks[None].expand(1, -1, -1)
    )
    legal = np.array(MASKS, bool)
    assert (log_pi[0].exp().detach().numpy()[~legal] == 0).all()
    np.testing.assert_allclose(log_pi[0].exp().sum(-1).detach(), np.ones(5), atol=1e-6)
    made.update([A, B], [1.0, 3.0])
    assert all(bool(value.isfinite().all()) for value in weights(made).values())


def test_it_learns_what_pays(space: Space) -> None:
    """Halving the stem pays 1, everything else 0."""
    made = agent(space, learning_rate=0.5)

    def halves_the_stem() -> float:
        log_pi, _ = made.policy(
            made.states[0].view(1, 1, -1), torch.tensor([[3]]), made.masks[0].view(1, 1, -1)
        )
        return float(log_pi[0, 0, 1].exp().item())

    assert halves_the_stem() < 0.5
    for _ in range(40):
        proposals = made.propose(8)
        made.update(proposals, [float(actions[0] == 1) for actions in proposals])
    assert halves_the_stem() > 0.9
