"""Modules by the names that they had before they were put into rooms.

Code of users imports them by these names: a teacher's function its manifest, a script a threshold.
Whoever does gets the module as it is called now, and a warning that says how. Nothing of ours uses
this, and a release that says so in CHANGELOG.md may take it away.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# (package, room) → modules, those with another name as old=new
_ROOMS: dict[tuple[str, str], str] = {
    ("envs", "envs.compression"): (
        "channels cost criteria flow joins layers moves plan resolve rules surgery training_norms"
    ),
    ("envs", "envs.export"): ("export opsets quantise tidy"),
    ("envs", "envs.fx_import"): ("memory reading trace"),
    ("envs", "envs.graph"): ("check netspec ops"),
    ("envs", "envs.gym"): ("compression toy vector viewer"),
    ("routers", "routers.calibration"): ("calibrate goal_options goals risk"),
    ("routers", "routers.evaluation"): ("intervals metrics"),
    ("routers", "routers.fitting"): ("crossfit natural_rate spaces tuning"),
    ("routers", "routers.models"): ("families knn scores"),
    ("routers", "routers.onnx"): ("caps confidence convert export features nodes pair standard"),
    ("routers", "routers.ranking"): ("ranking room ties"),
    ("routers", "routers.selection"): ("committees draws labels qbc"),
    ("search", "search.analysis"): (
        "finalize=adopt_run inner=tune_trial maps=tune_plots outer=tune_study rerank "
        "rerank_plot standings=scored_trials table=csv_export tune tune_page"
    ),
    ("search", "search.execution"): (
        "classroom=training_context cluster crew=worker_pool evaluation "
        "evaluations=trial_cache evaluator patience=timeouts watchdog workers=worker"
    ),
    ("search", "search.finalists"): ("choice=select final=train finalists"),
    ("search", "search.job"): (
        "choices claim events goal job_file=spec_file lock machine run_folder spec"
    ),
    ("search", "search.ledger"): ("ledger snapshot=columns storage trial"),
    ("search", "search.opening"): ("deadline opening pilots"),
    ("search", "search.packaging"): (
        "bundle_folder inscription int8 measure model_card package router_rows sense "
        "turn=recalibrate two_head"
    ),
    ("search", "search.preparation"): (
        "answers=teacher_outputs checks=validate latency mends preparation=prepare prepared "
        "teacher_check"
    ),
    ("search", "search.report"): (
        "build_record drawing=plot_style evaluate=bundle_evaluation page plots record report "
        "result tensorboard verdict"
    ),
    ("search", "search.samplers"): ("agent=policy"),
    ("search", "search.scheduling"): (
        "candidates=trial_state evidence halving loop memory=search_checkpoint probe streaming warm"
    ),
    ("search", "search.space"): (
        "baselines expectation=learning_curve facts=teacher_stats limits pareto "
        "reach=feasibility space thresholds training_plan"
    ),
    ("search.samplers", "search.samplers"): (
        "appraisal=acquisition calm=single_threaded imagination=policy_trainer novel=dedup "
        "promises=zero_cost_proxy"
    ),
    ("teachers", "teachers.acceleration"): ("faster modes precision"),
    ("teachers", "teachers.data"): (
        "class_names copies datasets digits folder_layout image_file image_folder listing "
        "parquet part_checks row_file source split_names splits unseen"
    ),
    ("teachers", "teachers.distillation"): (
        "augment checkpoint distill lesson=training_sets losses metrics recipe trainer training"
    ),
    ("teachers", "teachers.formats"): (
        "channel_order description factory folding formats guessing manifest onnx_file "
        "safetensors_file zoo"
    ),
    ("teachers", "teachers.two_head"): (
        "head_fitting joint_loss joint_training two_head two_head_recipe two_head_training"
    ),
}


#: old name → new name
RENAMED = {
    f"{package}.{old}": f"{room}.{new or old}"
    for (package, room), names in _ROOMS.items()
    for old, _, new in (name.partition("=") for name in names.split())
}


#: those that are packages
_PACKAGES = ("envs.ops", "envs.reading")


class Renamed(Loader):
    """A finder for modules under their old names, and their loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A finder's method; None for whatever has not moved."""
        return ModuleSpec(name, self) if now(name) else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module as it is called now in the place of the empty one."""
        new = now(module.__name__)
        assert new is not None
        _warn(module.__name__, new)
        sys.modules[module.__name__] = import_module(new)


def now(name: str) -> str | None:
    """What a module is called now, or a module of a package that has moved; None for others."""
    if name in RENAMED:
        return RENAMED[name]
    parent, _, child = name.rpartition(".")
    return f"{RENAMED[parent]}.{child}" if parent in _PACKAGES else None


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is called {new} now", DeprecationWarning, stacklevel=2)


def install() -> None:
    """Ask it after everybody else."""
    if not any(isinstance(finder, Renamed) for finder in sys.meta_path):
        sys.meta_path.append(Renamed())


def names_of(module: str, room: str | None = None) -> Callable[[str], Any]:
    """A ``__getattr__`` for a room that is called as a module was: that module's names."""

    room = room or module.rpartition(".")[0]

    def get(name: str) -> Any:
        # a module of the room is about to be imported, which must not load the other one
        if name.startswith("__") or find_spec(f"{room}.{name}") is not None:
            raise AttributeError(name)
        found = getattr(import_module(module), name)
        _warn(f"{room}.{name}", f"{module}.{name}")
        return found

    return get
