from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teachers.two_head.joint_loss import joint_loss, row_losses

LN2, LN3 = math.log(2), math.log(3)


def _slope(student_loss: float, teacher_loss: float | None, trust: float, beta: float) -> float:
    """dL/ds of one row, s being the logit of q."""
    s = torch.tensor([trust], requires_grad=True)
    teacher = None if teacher_loss is None else torch.tensor([teacher_loss])
    joint_loss(torch.tensor([student_loss]), teacher, s, beta).backward()  # type: ignore[no-untyped-call]
    assert s.grad is not None
    return s.grad.item()


@pytest.fixture
def two_rows() -> tuple[Tensor, Tensor, Tensor]:
    """ℓ₁, ℓ₀ and the logit of q.

    Row 1: the student says (1/2, 1/2) of label 0, ℓ₁ = ln 2 = .693147; the teacher (3/4, 1/4),
    ℓ₀ = ln 4/3 = .287682; q = 3/4.
    Row 2: the student says (3/4, 1/4) of label 1, ℓ₁ = ln 4 = 1.386294; the teacher (1/2, 1/2),
    ℓ₀ = ln 2; q = 1/4.
    """
    labels = torch.tensor([0, 1])
    student = torch.tensor([[0.0, 0.0], [LN3, 0.0]])
    teacher = torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    return row_losses(student, labels), row_losses(teacher, labels), torch.tensor([LN3, -LN3])


def test_the_white_box_loss_by_hand(two_rows: tuple[Tensor, Tensor, Tensor]) -> None:
    # Eq. 9 with β = 1/2, q·ℓ₁ + (1 − q)·ℓ₀ − β·ln q:
    # row 1: .75·.693147 + .25·.287682 + .5·.287682 = .735622
    # row 2: .25·1.386294 + .75·.693147 + .5·1.386294 = 1.559581
    student, teacher, trust = two_rows
    loss = joint_loss(student, teacher, trust, beta=0.5)
    assert loss.item() == pytest.approx((0.735622 + 1.559581) / 2, abs=1e-6)


def test_the_black_box_loss_by_hand(two_rows: tuple[Tensor, Tensor, Tensor]) -> None:
    # Eq. 10 with β = 1/2, q·ℓ₁ − β·ln q:
    # row 1: .75·.693147 + .5·.287682 = .663701; row 2: .25·1.386294 + .5·1.386294 = 1.039721
    student, _, trust = two_rows
    loss = joint_loss(student, None, trust, beta=0.5)
    assert loss.item() == pytest.approx((0.663701 + 1.039721) / 2, abs=1e-6)


def test_gradients_by_hand() -> None:
    # dL/ds = q(1 − q)(ℓ₁ − ℓ₀) − β(1 − q) at q = 3/4, ℓ₁ = 2, ℓ₀ = .5, β = .1:
    # 3/16 · 1.5 − .1/4 = .25625; and without a teacher 3/16 · 2 − .025 = .35
    assert _slope(2.0, 0.5, LN3, 0.1) == pytest.approx(0.25625)
    assert _slope(2.0, None, LN3, 0.1) == pytest.approx(0.35)
    # dL/dℓ₁ = q: the student learns from a row as far as it is trusted with it
    student = torch.tensor([2.0, 2.0], requires_grad=True)
    joint_loss(student, None, torch.tensor([LN3, -LN3]), 0.1).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.tolist() == pytest.approx([0.75 / 2, 0.25 / 2])


@settings(max_examples=100, deadline=None)
@given(beta=st.floats(0.01, 5), excess=st.floats(0.01, 8), teacher=st.floats(0, 3))
def test_the_best_q_is_beta_over_the_excess_loss(
    beta: float, excess: float, teacher: float
) -> None:
    def slope(trust: float) -> float:
        return _slope(teacher + excess, teacher, trust, beta)

    if beta < 0.95 * excess:
        best = math.log(beta / (excess - beta))  # the logit of β / excess
        assert slope(best - 0.5) < 0 < slope(best + 0.5)
    elif beta > 1.05 * excess:  # trusted for certain: more trust is always better
        assert max(slope(trust) for trust in (-8.0, 0.0, 8.0)) < 0


def test_without_beta_the_better_one_is_trusted() -> None:
    # β = 0: the student's loss is larger in the first case, smaller in the second, equal in the
    # third; minimising moves q against the slope.
    assert _slope(2.0, 0.5, 0.0, 0.0) > 0
    assert _slope(0.5, 2.0, 0.0, 0.0) < 0
    assert _slope(1.0, 1.0, 0.0, 0.0) == 0


def test_a_large_beta_asks_for_trust_whatever_the_student_loses() -> None:
    assert all(_slope(20.0, 0.0, trust, 100.0) < 0 for trust in (-5.0, 0.0, 5.0))


def test_black_box_is_a_teacher_without_losses(two_rows: tuple[Tensor, Tensor, Tensor]) -> None:
    student, _, trust = two_rows
    assert torch.equal(
        joint_loss(student, None, trust, 0.3),
        joint_loss(student, torch.zeros(2), trust, 0.3),
    )


@pytest.mark.parametrize("trust", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_extremes_stay_finite(trust: float, logit: float, beta: float) -> None:
    logits = torch.tensor([[logit, 0.0, 3.0]], requires_grad=True)
    s = torch.tensor([trust], requires_grad=True)
    labels = torch.tensor([0])
    teacher = row_losses(torch.tensor([[-logit, 0.0, 0.0]]), labels)
    loss = joint_loss(row_losses(logits, labels), teacher, s, beta)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    for leaf in (logits, s):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
    if beta and trust < 0 and logit > 0:
        # q is 0 to the last digit, and the pull of β on it is still there: −β(1 − q) = −.3
        assert s.grad is not None
        assert s.grad.item() == pytest.approx(-0.3)


def test_bfloat16_is_widened_before_anything_is_computed() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 10, generator=generator).bfloat16()
    trust = (5 * torch.randn(64, generator=generator)).bfloat16()
    labels = torch.arange(64) % 10
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = joint_loss(row_losses(logits, labels), None, trust, 0.1)
    assert loss.dtype == torch.float32
    expected = joint_loss(row_losses(logits.float(), labels), None, trust.float(), 0.1)
    assert loss.item() == expected.item()
