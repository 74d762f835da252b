"""The model card that ships with a bundle: Markdown, every figure with its part of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge.manifest import Figure, Manifest
from routers.calibration.calibrate import threshold_words
from routers.calibration.goal_options import chosen_goal

_TITLES = {
    "student_accuracy": "Student alone",
    "teacher_accuracy": "Teacher alone",
    "pair_accuracy": "Student and teacher together",
    "appeals": "Share of inputs appealed",
    "acc_i": "Share of the gap won back (AccI)",
}


def card_of(manifest: Manifest, contents: Mapping[str, bytes]) -> bytes:
    """The card's file, for a manifest that does not know yet what its files weigh."""
    student, router, pair = manifest.student, manifest.router, manifest.pair
    sized = replace(
        manifest,
        student=replace(student, bytes=len(contents[student.file])),
        router=replace(router, bytes=len(contents[router.file])),
        pair=replace(pair, bytes=len(contents[pair.file])),
    )
    return model_card(sized).encode()


def model_card(manifest: Manifest) -> str:
    """What someone who is handed the bundle wants to know before using it."""
    shape = "×".join(map(str, manifest.preprocess.input_shape))
    lines = [
        f"# {manifest.name}",
        "",
        f"An image classifier for {len(manifest.class_names)} classes, made by understudy on "
        f"{manifest.created}: a student for the device, and a router that decides for every "
        "input whether the student's answer stands or the teacher is asked.",
        "",
        f"- **Input**: images {shape} (channels × height × width), mean "
        f"{list(manifest.preprocess.mean)}, standard deviation {list(manifest.preprocess.std)} "
        "after division by 255.",
        f"- **Student**: {manifest.student.kb:,.1f} KB of fp32 weights, "
        f"{manifest.student.parameters:,} parameters, {manifest.student.macs:,} "
        f"multiply-accumulates per image; {manifest.student.bytes / 1024:,.1f} KB on disk.",
        f"- **Pair**: {_pair(manifest)}, {manifest.pair.bytes / 1024:,.1f} KB on disk.",
        f"- **Teacher**: {manifest.teacher.name}, {manifest.teacher.kb:,.0f} KB.",
        f"- **Router**: {manifest.router.name} ({manifest.router.kind}). An input is appealed "
        f"{threshold_words(manifest.threshold)}, set on the calibration part; the "
        f"goal was {chosen_goal(manifest.goal).words()}.",
        f"- **Runs on**: any runtime for ONNX that knows the operators of {_operators(manifest)}.",
        f"- **Licence**: {manifest.licence or 'not stated by whoever made it'}.",
        "",
        "## Figures",
        "",
        "Measured in ONNX Runtime on the files in this folder.",
        "",
        "| figure | " + " | ".join(part for part in _parts(manifest)) + " |",
        "|---" * (1 + len(_parts(manifest))) + "|",
    ]
    names = dict.fromkeys(name.split(".", 1)[1] for name in manifest.figures)
    for name in names:
        cells = [_cell(manifest.figures.get(f"{part}.{name}")) for part in _parts(manifest)]
        lines.append(f"| {_TITLES.get(name, name.replace('_', ' '))} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Rows: " + ", ".join(f"{part} {rows:,}" for part, rows in manifest.parts.items()) + ".",
    ]
    lines += ["", "## How the router was chosen", "", manifest.note]
    if manifest.warnings:
        lines += ["", "## Warnings", "", *(f"- {warning}" for warning in manifest.warnings)]
    lines += ["", "## Classes", "", ", ".join(manifest.class_names), ""]
    return "\n".join(lines)


def _pair(manifest: Manifest) -> str:
    """What limits on size count: weights in fp32 and the router's own file."""
    if manifest.router.kind == "head":
        return f"{manifest.student.kb:,.1f} KB of fp32 weights and the student's own head"
    kb = manifest.student.kb + manifest.router.bytes / 1024
    return f"{kb:,.1f} KB of fp32 weights and router"


def _operators(manifest: Manifest) -> str:
    needed = [f"{domain} (opset {version})" for domain, version in manifest.pair.operators.items()]
    return " and ".join(needed) or "the domains that pair.onnx declares"


def _parts(manifest: Manifest) -> list[str]:
    return list(dict.fromkeys(figure.part for figure in manifest.figures.values()))


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "not defined"
    return f"{figure.value:.2%}"
