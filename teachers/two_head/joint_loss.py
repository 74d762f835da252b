"""AppealNet's joint loss of a student and its predictor q (Li et al., Eq. 9 and 10).

q(1|x) is the chance that the student's own answer stands, so it is a score of trust: Eq. 1 keeps
an input on the edge where q(1|x) ≥ δ. What the loss asks of q is best seen row by row. With
g = ℓ(f₁(x), y) − ℓ(f₀(x), y), what trusting the student costs, it is least at

    q = β / g   where g > β,   else   q = 1

so β is the excess loss, in nats, up to which the student is trusted for certain. At β = 0 every row
on which the teacher's loss is the smaller one is appealed; a large β trusts everything.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """ℓ(f(x), y): the cross-entropy of each row, float32 b; logits b×K, labels b."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def joint_loss(
    student_loss: Tensor, teacher_loss: Tensor | None, trust: Tensor, beta: float
) -> Tensor:
    """Scalar: the mean over rows of q·ℓ₁ + (1 − q)·ℓ₀ − β·log q.

    q is never computed from 1 − q or the reverse, and log q never from q, so that values and
    gradients stay finite however sure the predictor is. Everything is float32, under autocast too.

    Args:
        student_loss: ℓ₁ = ℓ(f₁(x), y) of each row, b.
        teacher_loss: ℓ₀ = ℓ(f₀(x), y), b: Eq. 9, the white box. None for Eq. 10, the black box: a
            teacher that is taken to be right everywhere, ℓ₀ = 0.
        trust: logit of q(1|x), b.
        beta: β, at least 0.
    """
    trust = trust.float()
    rows = torch.sigmoid(trust) * student_loss.float()
    if teacher_loss is not None:
        rows = rows + torch.sigmoid(-trust) * teacher_loss.float()
    return (rows - beta * F.logsigmoid(trust)).mean()
