"""The job: everything a user may ask for, in one typed object.

YAML keys, command-line options and Python arguments are the fields below, with the same names,
bounds and help. This module loads neither torch nor ray, so bad input is refused before they load.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge.errors import BadInput

#: fields that a search does not depend on: they choose the router and its threshold afterwards
GOAL = (
    "appeals", "accuracy", "acci", "cost_per_appeal", "cost_per_error", "risk", "confidence",
)  # fmt: skip
#: those of them that say more about another one
BESIDE_A_GOAL = ("cost_per_error", "confidence")
ROUTING = (
    "two_head", "router_rows", "sampling", "features", "families", "router_trials", "portable",
    "max_pair_kb",
    *GOAL,
)  # fmt: skip


#: fields that are shares of 1, which people write as percentages too
SHARES = ("max_drop", "appeals", "accuracy", "acci", "risk", "confidence")


def _field(group: str, help_: str, default: Any = ..., **bounds: Any) -> Any:
    return Field(default, description=help_, json_schema_extra={"group": group}, **bounds)


class JobSpec(BaseModel):
    """One search: teacher, data, limits and how to go about it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    teacher: str = _field("Job", "A .safetensors or .onnx file with its .json beside it.")
    data: str = _field("Job", "'digits', a folder with train.parquet, or a folder of images.")
    out: str = _field("Job", "Folder for the results; it must not exist yet.")
    seed: int = _field("Job", "Seed of everything that is drawn.", 0, ge=0, lt=2**31)

    max_kb: float | None = _field("Limits", "Largest student, KB of fp32 weights.", None, gt=0)
    max_pair_kb: float | None = _field(
        "Limits", "Largest student and router together; no router above it ships.", None, gt=0
    )
    max_macs: float | None = _field(
        "Limits", "Most multiply-accumulates of the student for one input.", None, gt=0
    )
    max_ms: float | None = _field(
        "Limits", "Most milliseconds of the student for one input, in ONNX Runtime.", None, gt=0
    )
    profile: str | None = _field(
        "Limits",
        "Latency profile of the device, from `understudy profile`; else of this machine.",
        None,
    )
    target: str = _field(
        "Limits",
        "What is sought within the limits: accurate (as accurate as possible), smallest or fastest "
        "(that lose at most max_drop), or balanced (both thresholds bend the reward).",
        "accurate",
    )
    max_drop: float | None = _field(
        "Limits",
        "Accuracy that the student may lose, as a share (.01 is one point).",
        None,
        ge=0,
        lt=1,
    )
    budget: int = _field("Limits", "Candidates to distil.", 24, ge=1, le=1_000_000)
    minutes: float | None = _field("Limits", "Stop within about this time.", None, gt=0)

    appeals: float | None = _field(
        "Appeals",
        "Share of inputs that may be appealed; .1 where no other goal is named.",
        None,
        ge=0,
        le=1,
    )
    accuracy: float | None = _field(
        "Appeals", "Or: accuracy of the pair, with the fewest appeals.", None, ge=0, le=1
    )
    acci: float | None = _field(
        "Appeals",
        "Or: share of the accuracy gap to the teacher that is won back, with the fewest appeals.",
        None,
        ge=0,
        le=1,
    )
    cost_per_appeal: float | None = _field(
        "Appeals", "Or: the least price, where an appeal costs this.", None, ge=0
    )
    cost_per_error: float | None = _field(
        "Appeals", "What a wrong answer costs beside cost_per_appeal; else 100.", None, gt=0
    )
    risk: float | None = _field(
        "Appeals", "Or: share of trusted answers that may be wrong, promised.", None, gt=0, lt=1
    )
    confidence: float | None = _field(
        "Appeals", "Confidence of the promise of risk; else .95.", None, gt=0, lt=1
    )

    metric: str = _field("Data", "accuracy or balanced_accuracy.", "accuracy")
    teacher_unseen: str | None = _field(
        "Data",
        "Rows the teacher never saw: 'last 5000', '50 per class', a folder, a list of files, a "
        "Parquet file; overrides its JSON.",
        None,
    )
    resize: bool = _field("Data", "Resize images to the teacher's input.", False)
    memory_gb: float | None = _field(
        "Data",
        "Images beyond this are mapped from the run's folder; else a quarter of memory, at most 8.",
        None,
        ge=0,
        le=1e6,
    )

    sampler: str = _field(
        "Search",
        "Who proposes candidates: model-based, reinforce, random, evolution, tpe, nsga2, gp; or "
        "model-based-no-agent, -no-mutation, -no-probe.",
        "model-based",
    )
    probes: int = _field(
        "Search",
        "Untrained students that model-based probes before it proposes one (8 times as many before "
        "the first); 0 for none.",
        8,
        ge=0,
        le=256,
    )
    warm: tuple[str, ...] = _field(
        "Search",
        "Folders of earlier runs on the same teacher, whose candidates the sampler learns from.",
        (),
    )
    preset: str = _field("Search", "Pool and scaled fields: default or paper.", "default")
    pool: tuple[float, ...] | None = _field(
        "Search", "Coefficients, ascending, the last one 1; replaces the preset's.", None
    )
    scaled: str | None = _field(
        "Search", "Fields of (k, d, p, o) that a coefficient scales; replaces the preset's.", None
    )
    protect: tuple[str, ...] = _field(
        "Search", "Layers that stay as they are, by name or pattern such as layer4.*.", ()
    )
    criterion: str = _field(
        "Search", "Channels that a student keeps: l1, l2, bn_scale or random.", "l1"
    )
    batch: int = _field("Search", "Candidates proposed at a time, Zhang's N.", 4, ge=1, le=4096)
    mode: str = _field(
        "Search",
        "synchronous (a batch at a time; repeats from the seed, but slots wait for the slowest) or "
        "streaming (slots never wait; repeats from the ledger's order).",
        "synchronous",
    )
    storage: str | None = _field(
        "Search",
        "Database for the ledger, as sqlite:///x.db or postgresql://…; else a file in the run's "
        "folder.",
        None,
    )
    tensorboard: bool = _field(
        "Search", "Write TensorBoard event files to the run's folder.", False
    )
    agent_rate: float = _field(
        "Search", "Learning rate of the sampler reinforce, Zhang's ε.", 1e-4, gt=0, le=1
    )
    agent_units: int = _field(
        "Search", "Units in each of the agent's GRU layers.", 64, ge=1, le=4096
    )
    baseline_decay: float = _field(
        "Search", "Memory of reinforce's moving-average baseline b.", 0.9, ge=0, lt=1
    )

    reward: str = _field(
        "Reward", "threshold (binds), paper (Zhang's Eq. 7) or n2n (no thresholds).", "threshold"
    )
    alpha: float = _field("Reward", "Weight of compression, Zhang's α.", 20.0, ge=0, le=300)
    beta: float | None = _field(
        "Reward",
        "Weight of accuracy, Zhang's β; else 15, or 300 where smallest or fastest is sought: then "
        "nothing pays for a loss beyond the drop.",
        None,
        ge=0,
        le=300,
    )
    c0: float | None = _field(
        "Reward",
        "Compression threshold; else by target: 1 for smallest; from max_kb, or .95, for the "
        "others.",
        None,
        ge=0,
        le=1,
    )
    a0: float | None = _field(
        "Reward",
        "Accuracy threshold; else by target: 1 for accurate, the teacher's less max_drop or .01 "
        "for the others.",
        None,
        ge=0,
        le=1,
    )
    rho: float | None = _field(
        "Reward",
        "Slope above a threshold over the slope below it; else .1 for balanced, .01 for the other "
        "targets.",
        None,
        ge=0,
        le=1,
    )
    gamma: float = _field("Reward", "Weight of latency; 0 leaves it out.", 0.0, ge=0, le=100)
    l0: float | None = _field("Reward", "Latency threshold, ms; else max_ms.", None, gt=0)

    loss: str = _field(
        "Distillation",
        "What is learnt from the teacher: soft, similarity, features or none (labels alone).",
        "soft",
    )
    kd_weight: float | None = _field(
        "Distillation", "Weight of what the teacher says; else one that suits the loss.", None, ge=0
    )
    ce_weight: float | None = _field(
        "Distillation",
        "Weight of the labels' cross-entropy; else one that suits the loss.",
        None,
        ge=0,
    )
    normalise: str = _field(
        "Distillation",
        "Batch norm for the time of the training where a network has none (folded away before it "
        "ships): auto (a short look tells), batch or none.",
        "auto",
    )
    proxy_rows: int | None = _field(
        "Distillation",
        "Rows of a proxy; else by the classes, 3,000 or more.",
        None,
        ge=2,
    )
    proxy_epochs: int | None = _field(
        "Distillation",
        "Epochs a candidate trains for; else those that give 300 steps or more.",
        None,
        ge=1,
        le=10_000,
    )
    proxy_gain: float | None = _field(
        "Distillation",
        "How fast a candidate's log error nears the teacher's with the images seen, as a power: "
        "rewards are of what the full training is expected to reach. 0 takes proxies at their "
        "word; else the plain students, trained in full before the search, tell.",
        None,
        ge=0,
        le=2,
    )
    halving: int = _field(
        "Distillation",
        "At epochs 1, N, N², … of the proxy one candidate in N goes on; 1 stops none.",
        1,
        ge=1,
        le=100,
    )
    final_epochs: int | None = _field(
        "Distillation",
        "Epochs a finalist trains for; else 12, or as many as give 2,500 steps.",
        None,
        ge=1,
        le=10_000,
    )
    finalists: int = _field(
        "Distillation",
        "Best candidates of the search that are trained in full, beside the plain students; the "
        "best of all ships.",
        2,
        ge=1,
        le=100,
    )
    patience: int | None = _field(
        "Distillation",
        "Epochs without a better one on validation after which a full training ends; 0: all; else "
        "a third of its epochs.",
        None,
        ge=0,
        le=10_000,
    )
    ema: float = _field(
        "Distillation",
        "Decay per step of a finalist's averaged weights, e.g. .998; 0 averages nothing.",
        0.0,
        ge=0,
        lt=1,
    )
    batch_size: int | None = _field(
        "Distillation",
        "Rows per training step; else 32 for proxies, 32 to 128 by the rows for full trainings.",
        None,
        ge=2,
        le=65_536,
    )
    learning_rate: float | None = _field(
        "Distillation",
        "Peak learning rate; else .005.",
        None,
        gt=0,
        le=1,
    )
    temperature: float | None = _field(
        "Distillation",
        "Temperature of soft targets; else 4, or 2 where rows are few.",
        None,
        gt=0,
        le=100,
    )
    augment: str = _field(
        "Distillation",
        "Change of a finalist's images while it learns: auto (flip_shift where the teacher is as "
        "right about mirrored images, else shift), shift, flip_shift or none.",
        "auto",
    )
    mix: str = _field(
        "Distillation",
        "Patches of other images pasted into a finalist's images, about which the teacher answers: "
        "cutmix, none, or auto (cutmix where rows are few).",
        "auto",
    )
    views: int = _field(
        "Distillation",
        "Changed views of an image that the teacher answers beforehand; with 0, its answer about "
        "the unchanged image stands for all, but where images are patched.",
        0,
        ge=0,
        le=1000,
    )
    precision: str = _field("Distillation", "auto (timed, per candidate), fp32 or bf16.", "auto")
    layout: str = _field(
        "Distillation",
        "Order of memory: auto (timed, per candidate), channels_last or contiguous.",
        "auto",
    )

    int8: bool = _field(
        "Bundle",
        "Ship the student in int8 where that loses at most .2 points and is faster here.",
        True,
    )

    licence: str | None = _field(
        "Bundle", "Licence of what ships, written into its files, e.g. Apache-2.0.", None
    )

    two_head: str = _field(
        "Router",
        "AppealNet's predictor head beside the routers: none, frozen (seconds; the student stays "
        "as it is) or joint (as long as a distillation; the student learns on).",
        "none",
    )
    router_rows: str = _field(
        "Router",
        "Rows that routers are fitted on: withheld from the student (as many as there are errors "
        "wanted), auto (the same, but fewer where rows are few), learnt (by it, as in the paper), "
        "or folds (all, by five more trainings: for small data).",
        "auto",
    )
    sampling: str = _field("Router", "Normal rows a router learns from: qbc, random or all.", "qbc")
    features: str = _field(
        "Router",
        "What fitted routers look at: derived, sorted_probabilities, or logits (as in the paper).",
        "derived",
    )
    families: tuple[str, ...] = _field(
        "Router",
        "Router families to fit beside the scores.",
        ("svm", "rf", "knn", "gbdt", "xgb", "et"),
    )
    router_trials: int = _field(
        "Router",
        "Settings of each family that are tried, on the router part alone; 1 takes its defaults.",
        4,
        ge=1,
        le=1000,
    )

    portable: bool = _field(
        "Router",
        "Routers in operators of the ONNX standard domain alone, which every runtime has.",
        False,
    )

    ray: str = _field("Ray", "local, auto, or ray://HOST:PORT.", "local")
    workers: int | None = _field(
        "Ray",
        "Candidates at a time; else as many as there are processors (or GPUs) for.",
        None,
        ge=1,
    )
    threads: int = _field("Ray", "Processors per candidate, one thread each.", 1, ge=1, le=256)
    gpus: float = _field(
        "Ray", "GPUs per candidate; .25 puts four on one, 0 trains on processors.", 0.0, ge=0, le=64
    )
    worker_memory_mb: int | None = _field(
        "Ray", "Memory per candidate, MB beyond what is shared; else no limit.", None, ge=64
    )
    candidate_minutes: float | None = _field(
        "Ray",
        "A candidate that takes longer has hung; else 30 times the slowest epoch so far.",
        None,
        gt=0,
    )

    @property
    def device(self) -> str:
        """Where students are trained, as torch names it."""
        return "cuda" if self.gpus > 0 else "cpu"

    @field_validator("storage")
    @classmethod
    def _whole_path(cls, url: str | None) -> str | None:
        """A database file by its whole path: its name means the same in every folder."""
        if url is None or not url.startswith("sqlite"):
            return url
        head, slashes, name = url.partition(":///")
        plain = bool(name) and not name.startswith((":", "/", "file:"))
        return f"{head}{slashes}{Path(name).absolute()}" if plain else url


def fields() -> list[tuple[str, str, str, Any]]:
    """(group, name, help, default) of every field, in order; ``...`` where there is no default."""
    rows = []
    for name, info in JobSpec.model_fields.items():
        extra = info.json_schema_extra
        assert isinstance(extra, dict)
        default = ... if info.is_required() else info.default
        rows.append((str(extra["group"]), name, str(info.description), default))
    return rows


def make_spec(values: Mapping[str, Any]) -> JobSpec:
    """Check a job as a whole.

    Raises:
        BadInput: names the first field that is wrong, what it holds and what it may hold.
    """
    for name in SHARES:
        _check_share(name, values.get(name))
    try:
        return JobSpec(**values)
    except ValidationError as error:
        raise _explain(error) from None


def _check_share(name: str, value: Any) -> None:
    """Ask whoever gives a share as a percentage; a drop of all accuracy is no limit at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if value <= 1 and not (name == "max_drop" and value == 1):
        return
    option = "--" + name.replace("_", "-")
    meant = f"{value / 100:g}"
    if name == "max_drop":
        bound = f"less than 1; {meant} is {value:g} point{'s' * (value != 1)}"
    else:
        bound = f"at most 1; {meant} is {value:g} per cent"
    raise BadInput(
        f"{name!r} of the job is a share",
        value=value,
        bound=bound,
        remedy=f"Did you mean {option} {meant}?" if value <= 100 else f"Mend {option}.",
        field=name,
    )


def _explain(error: ValidationError) -> BadInput:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "the job"
    option = "--" + name.replace("_", "-")
    if first["type"] == "extra_forbidden":
        known = list(JobSpec.model_fields)
        close = difflib.get_close_matches(name, known, 1)
        remedy = f"Did you mean {close[0]!r}?" if close else "See `understudy config`."
        return BadInput(
            "unknown key in the job", value=name, bound=", ".join(known), remedy=remedy, field=name
        )
    if first["type"] == "missing":
        return BadInput(
            f"the job lacks {name!r}",
            value=None,
            bound="a value",
            remedy=f"Give {option}.",
            field=name,
        )
    about = JobSpec.model_fields[name].description
    bound = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return BadInput(
        f"{name!r} of the job cannot be used",
        value=first["input"],
        bound=bound,
        remedy=f"Mend {option}, or {name!r} in the YAML file. {about}",
        field=name,
    )


def overridden(values: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A job's values under others; whoever asks for another goal no longer asks for the old one."""
    named = [name for name in GOAL if name not in BESIDE_A_GOAL]
    asked, before = (
        {name for name in named if of.get(name) is not None} for of in (chosen, values)
    )
    if asked and asked != before:
        values = {name: value for name, value in values.items() if name not in GOAL}
    return {**values, **chosen}
