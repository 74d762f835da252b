"""Turn the threshold of a finished bundle: no data, no teacher, and nothing is fitted.

What the manifest keeps of the calibration rows is enough to choose another threshold. What was
measured with the old one on rows that are not kept is no longer true, and is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.bundle import load_bundle, write_bundle
from edge.errors import BadInput
from edge.manifest import Figure, Manifest
from routers.calibrate import CalibrationRows
from routers.goal_options import chosen_goal, options_of
from routers.goals import Calibrated, Goal, calibrate
from routers.metrics import OperatingPoint
from routers.pair import with_threshold
from search.bundle_folder import put_bundle
from search.model_card import model_card

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
    manifest = _manifest(bundle.manifest, found)
    contents = {name: bundle.read(name) for name in manifest.files}
    pair = bundle.manifest.pair.file
    contents[pair] = with_threshold(contents[pair], found.threshold)
    contents["MODEL_CARD.md"] = model_card(manifest).encode()
    if out is not None:
        write_bundle(out, manifest, contents)
    else:
        put_bundle(bundle.path, manifest, contents)
    return found


def _manifest(manifest: Manifest, found: Calibrated) -> Manifest:
    kept = {
        name: figure
        for name, figure in manifest.figures.items()
        if not name.split(".", 1)[-1].startswith(OF_THE_PAIR)
    }
    warnings = [found.warning] if found.warning else []
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
    own = calibrate(chosen_goal(manifest.goal), rows, nearest=True).warning
    return [warning for warning in manifest.warnings if warning != own]


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
