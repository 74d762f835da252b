"""``understudy predict``: a bundle on images, with the base install alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edge.bundle import load_bundle
from edge.runtime import EdgeRuntime, OnnxTeacher
from service.tables import print_table


def predict_images(bundle: Path, images: Sequence[Path], teacher: Path | None) -> dict[str, Any]:
    """Answers for image files.

    Args:
        bundle: folder of a bundle.
        images: files that Pillow reads.
        teacher: ONNX model that answers the appeals; without one they are only marked.

    Raises:
        BadInput: a bundle, image or teacher that cannot be used.
    """
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    cloud = None
    if teacher is not None:
        cloud = OnnxTeacher(teacher, manifest.preprocess, len(manifest.class_names))
    pixels = np.stack([manifest.preprocess.decode(path) for path in images])
    answers = EdgeRuntime(loaded).answer(pixels, cloud)
    return {
        "bundle": str(bundle),
        "threshold": manifest.threshold,
        "images": [
            {"image": str(path), "trusted": answer.decision.trusted} | asdict(answer)
            for path, answer in zip(images, answers, strict=True)
        ],
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
