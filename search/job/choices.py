"""The names that a field of the job may hold, for help and early refusals.

The open sets themselves stand where their members are, and most of those load torch. A test
compares.
"""

from __future__ import annotations

from edge.errors import check_member
from search.job.spec import JobSpec

CHOICES: dict[str, tuple[str, ...]] = {
    "metric": ("accuracy", "balanced_accuracy"),
    "sampler": (
        *("model-based", "reinforce", "random", "evolution", "tpe", "nsga2", "gp"),
        *("model-based-no-agent", "model-based-no-mutation", "model-based-no-probe"),
    ),
    "preset": ("default", "paper"),
    "criterion": ("l1", "l2", "bn_scale", "random"),
    "mode": ("synchronous", "streaming"),
    "reward": ("threshold", "paper", "n2n"),
    "loss": ("soft", "similarity", "features", "none"),
    "augment": ("auto", "shift", "flip_shift", "none"),
    "mix": ("auto", "cutmix", "none"),
    "target": ("accurate", "smallest", "fastest", "balanced"),
    "normalise": ("auto", "batch", "none"),
    "precision": ("auto", "fp32", "bf16"),
    "layout": ("auto", "channels_last", "contiguous"),
    "two_head": ("none", "frozen", "joint"),
    "router_rows": ("auto", "withheld", "learnt", "folds"),
    "sampling": ("qbc", "random", "all"),
    "features": ("derived", "sorted_probabilities", "logits"),
    "families": ("svm", "rf", "knn", "gbdt", "xgb", "et"),
}


def check_choices(spec: JobSpec) -> None:
    """Refuse a name that a field cannot hold.

    Raises:
        BadInput: names the field, and what it may hold.
    """
    for field, known in CHOICES.items():
        value = getattr(spec, field)
        flag = field.replace("_", "-")
        for name in value if isinstance(value, tuple) else (value,):
            check_member(flag, name, known, f"Choose one of these for --{flag}.", field)
