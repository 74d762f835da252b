"""The names in the help are those of the open sets, whose modules take seconds to load."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from edge.errors import BadInput
from envs.compression.criteria import CRITERIA
from envs.compression.moves import PRESETS
from envs.reward import REWARDS
from routers.models.families import FAMILIES
from routers.onnx.features import FEATURES
from routers.selection.qbc import SAMPLING
from search.job.choices import CHOICES, check_choices
from search.job.spec import JobSpec, make_spec
from search.packaging import router_rows
from search.samplers import SAMPLERS
from search.scheduling.loop import MODES
from search.space.thresholds import TARGETS
from teachers.acceleration.modes import LAYOUTS
from teachers.acceleration.precision import PRECISIONS
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.losses import LOSSES
from teachers.distillation.metrics import METRICS
from teachers.two_head.two_head_recipe import WAYS

SETS: dict[str, Collection[str]] = {
    "metric": METRICS,
    "sampler": SAMPLERS,
    "preset": PRESETS,
    "criterion": CRITERIA,
    "mode": MODES,
    "reward": REWARDS,
    "loss": LOSSES,
    "augment": ("auto", *AUGMENTS),
    "mix": ("auto", "cutmix", "none"),
    "target": TARGETS,
    "normalise": ("auto", "batch", "none"),
    "precision": PRECISIONS,
    "layout": LAYOUTS,
    "two_head": ("none", *WAYS),
    "router_rows": router_rows.WAYS,
    "sampling": SAMPLING,
    "features": FEATURES,
    "families": FAMILIES,
}


def test_every_set_is_there_with_every_member() -> None:
    assert {name: set(known) for name, known in CHOICES.items()} == {
        name: set(known) for name, known in SETS.items()
    }


@pytest.mark.parametrize("field", CHOICES)
def test_a_name_that_is_in_no_set_is_refused_at_once(field: str) -> None:
    value = ("svm", "luck") if field == "families" else "luck"
    spec = make_spec({"teacher": "t", "data": "d", "out": "o", field: value})
    flag = field.replace("_", "-")
    with pytest.raises(BadInput, match=f"unknown {flag}: got 'luck'; .*for --{flag}"):
        check_choices(spec)


def test_the_defaults_are_members() -> None:
    check_choices(JobSpec(teacher="t", data="d", out="o"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_drop", 1, "less than 1; 0.01 is 1 point. Did you mean --max-drop 0.01?"),
        ("max_drop", 2.5, "0.025 is 2.5 points. Did you mean --max-drop 0.025?"),
        ("appeals", 10, "at most 1; 0.1 is 10 per cent. Did you mean --appeals 0.1?"),
        ("accuracy", 99.5, "Did you mean --accuracy 0.995?"),
        ("confidence", 95, "Did you mean --confidence 0.95?"),
        ("risk", 1000, "Mend --risk."),
    ],
)
def test_a_percentage_is_asked_about(field: str, value: float, said: str) -> None:
    with pytest.raises(BadInput, match="is a share") as caught:
        make_spec({"teacher": "t", "data": "d", "out": "o", field: value})
    assert str(caught.value).endswith(said)


def test_a_whole_share_is_one_where_it_makes_sense() -> None:
    for field in ("appeals", "accuracy", "acci"):
        make_spec({"teacher": "t", "data": "d", "out": "o", field: 1})
