"""Turn the threshold of a finished bundle: no data, no teacher, and nothing is fitted.

What the manifest keeps of the calibration rows is enough to choose another threshold. What was
measured with the old one on rows that are not kept is no longer true, and is dropped.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from edge.bundle import load_bundle, write_bundle
from edge.errors import BadInput
from edge.manifest import Figure, Manifest
from routers.calibration.calibrate import CalibrationRows
from routers.calibration.goal_options import chosen_goal, options_of
from routers.calibration.goals import Calibrated, Goal, calibrate
from routers.evaluation.metrics import OperatingPoint
from routers.onnx.pair import with_threshold
from search.job.events import Note, has_name
from search.packaging.bundle_folder import put_bundle
from search.packaging.model_card import card_of
from search.packaging.sense import AT_CHANCE, SHORT, Blind

#: fewer calibration rows than these are no evidence against a student
FEW = 20
#: figures that depend on the threshold; the others speak of student and teacher alone
OF_THE_PAIR = ("pair_", "appeals", "acc_i")


def turn(folder: Path, goal: Goal, out: Path | None = None) -> Calibrated:
    """Choose the threshold of a bundle anew.

    Args:
        folder: of the bundle.
        goal: what is asked now.
        out: folder of the new bundle; None to put it in the place of the old one.

    Raises:
        BadInput: the bundle is damaged, ``out`` exists, or the goal cannot be reached on the
            calibration rows; then nothing has changed.
    """
    bundle = load_bundle(folder)
    kept = bundle.manifest.calibration
    if not kept.score:
        raise BadInput(
            f"the threshold of {folder} cannot be turned",
            value="no calibration rows in its manifest",
            bound="at least one",
            remedy="Make the bundle anew: `understudy route RUN`.",
        )
    found = calibrate(goal, CalibrationRows.of(kept))
    found = replace(found, doubt=_doubt(bundle.manifest, found.expected))
    manifest = _manifest(bundle.manifest, found)
    contents = {name: bundle.read(name) for name in manifest.files}
    pair = bundle.manifest.pair.file
    contents[pair] = with_threshold(contents[pair], found.threshold)
    contents["MODEL_CARD.md"] = card_of(manifest, contents)
    if out is not None:
        write_bundle(out, manifest, contents)
    else:
        put_bundle(bundle.path, manifest, contents)
    return found


def standing(folder: Path) -> list[str]:
    """The names of the warnings that a bundle bears."""
    warnings = load_bundle(folder).manifest.warnings
    return [warning.split(":", 1)[0] for warning in warnings if has_name(warning)]


def _manifest(manifest: Manifest, found: Calibrated) -> Manifest:
    kept = {
        name: figure
        for name, figure in manifest.figures.items()
        if not name.split(".", 1)[-1].startswith(OF_THE_PAIR)
    }
    warnings = [_own(found)] if found.warning else []
    return replace(
        manifest,
        threshold=found.threshold,
        goal=options_of(found.goal),
        figures=kept | _figures(found.expected),
        warnings=(*_lasting(manifest), *warnings),
    )


def _lasting(manifest: Manifest) -> list[str]:
    """Warnings that speak of the data; the old threshold may have brought one of its own."""
    rows = CalibrationRows.of(manifest.calibration)
    own = calibrate(chosen_goal(manifest.goal), rows, nearest=True)
    return [warning for warning in manifest.warnings if warning not in (own.warning, _own(own))]


def _own(found: Calibrated) -> str:
    return Note(found.warning, name=found.name).named_text


def _doubt(manifest: Manifest, point: OperatingPoint) -> str:
    """What is known against the pair; of bundles from before there were named warnings, whether
    the student is right more often than a guess among the classes."""
    for warning in _lasting(manifest):
        if warning.split(":", 1)[0] in SHORT:
            return SHORT[warning.split(":", 1)[0]]
    if point.rows < FEW:
        return ""
    rows, chance = point.rows, 1 / len(manifest.class_names)
    blind = Blind(rows, rows * chance, math.sqrt(rows * chance * (1 - chance)))
    return SHORT[AT_CHANCE] if blind.explains(round(point.student_accuracy * rows)) else ""


def _figures(point: OperatingPoint) -> dict[str, Figure]:
    values = {
        "pair_accuracy": point.accuracy,
        "appeals": point.appeals,
        "acc_i": point.acc_i,
    }
    return {
        f"calibration.{name}": Figure(value, "calibration", point.rows)
        for name, value in values.items()
    }
