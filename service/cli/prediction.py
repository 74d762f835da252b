"""``understudy predict``: a bundle on images, with the base install alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.table import Table

from edge.bundle import load_bundle
from edge.runtime import EdgeRuntime, OnnxTeacher
from edge.session import CHUNK
from service.cli.places import bundle_of, images_of
from service.cli.tables import print_table


def predict_images(bundle: Path, images: Sequence[Path], teacher: Path | None) -> dict[str, Any]:
    """Answers for image files.

    Args:
        bundle: folder of a bundle, or of a run.
        images: files that Pillow reads, and folders with some.
        teacher: ONNX model that answers the appeals; without one they are only marked.

    Raises:
        BadInput: a bundle, image or teacher that cannot be used.
    """
    bundle = bundle_of(bundle)
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    files, others = images_of(images)
    cloud = None
    if teacher is not None:
        cloud = OnnxTeacher(teacher, manifest.preprocess, len(manifest.class_names))
    edge, answers = EdgeRuntime(loaded), []
    for start in range(0, len(files), CHUNK):
        some = files[start : start + CHUNK]
        pixels = np.stack([manifest.preprocess.decode(path) for path in some])
        answers += edge.answer(pixels, cloud)
    return {
        "bundle": str(bundle),
        "threshold": manifest.threshold,
        "images": [
            {"image": str(path), "trusted": answer.decision.trusted} | asdict(answer)
            for path, answer in zip(files, answers, strict=True)
        ],
        "left_out": others,
    }


def print_predictions(found: dict[str, Any]) -> None:
    """The same as a table."""
    table = Table()
    for column in ("image", "class", "probability", "decision", "score", "answered by"):
        numeric = column in ("probability", "score")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in found["images"]:
        table.add_row(
            row["image"],
            row["class_name"],
            f"{row['probability']:.4f}",
            "trust" if row["trusted"] else "appeal",
            f"{row['decision']['score']:.4f}",
            row["answered_by"] + (" (appeal failed)" if row["appeal_failed"] else ""),
        )
    print_table(table)
    if found["left_out"]:
        typer.echo(f"{found['left_out']:,} other files in the folders are no images by their names")
