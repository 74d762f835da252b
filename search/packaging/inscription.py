"""What the ONNX files that ship say of themselves, for whoever has the file and nothing else.

It stands in ``metadata_props``, which every viewer and runtime shows, and in the doc string.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from edge.manifest import RouterInfo
from edge.preprocess import Preprocess
from envs.export.tidy import described
from search.preparation.prepared import Prepared
from teachers.formats.manifest import SCALE


def network_facts(
    preprocess: Preprocess, class_names: Sequence[str], licence: str | None
) -> dict[str, str]:
    """Facts of a network: input, preparation, classes and licence; lists are JSON.

    What nobody named, a licence, is not there.
    """
    facts = {
        "input": f"float32 [batch, {', '.join(map(str, preprocess.input_shape))}]: {SCALE}",
        "mean": json.dumps(list(preprocess.mean)),
        "std": json.dumps(list(preprocess.std)),
        "class_names": json.dumps(list(class_names), ensure_ascii=False),
    }
    return facts | ({"licence": licence} if licence else {})


def router_facts(router: RouterInfo) -> dict[str, str]:
    """Facts of a router, for its own file and the pair's."""
    return {"router": f"{router.name} ({router.kind})"}


def network_words(classes: int, what: str) -> str:
    """The doc string of a network: ``what`` it is, such as "student"."""
    return (
        f"A {what} made by understudy: an image classifier for {classes} classes. Input image "
        "[batch, channels, height, width], prepared as under mean and std; output logits."
    )


ROUTER_WORDS = (
    "A router made by understudy: from a student's logits to a score, higher for more trust. "
    "Below the threshold the input is appealed to the teacher."
)


def pair_words(classes: int, router: RouterInfo) -> str:
    """The doc string of student, router and threshold in one graph."""
    return (
        f"A student for {classes} classes, its router {router.name} and the threshold, made by "
        "understudy. Outputs: logits; score, higher for more trust; and trusted, true where the "
        "student's answer stands. Elsewhere the teacher is to be asked. An image that holds NaN "
        "or infinity is never trusted."
    )


def named(prepared: Prepared, model: bytes, what: str) -> bytes:
    """A network's file that says what it is: ``what``, such as "student", of the job's classes."""
    about = prepared.teacher.manifest
    facts = network_facts(about.preprocess, about.class_names, prepared.spec.licence)
    return described(model, network_words(len(about.class_names), what), facts)
