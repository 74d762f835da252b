"""Whatever can ship together ships together once, and decides as its parts do."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from routers.onnx import export
from routers.onnx.pair import with_threshold
from tests.runtimes.pairs import (
    HEAD,
    Cell,
    every_cell,
    images,
    pair_of,
    pairwise,
    parts_say,
    poisoned,
    threshold_of,
)

EVERY = every_cell()
FEW = pairwise(EVERY)


@pytest.mark.parametrize("cell", FEW, ids=str)
def test_a_pair_decides_as_its_parts_do(cell: Cell) -> None:
    _check(cell)


@pytest.mark.long
@pytest.mark.parametrize("cell", [cell for cell in EVERY if cell not in FEW], ids=str)
def test_every_pair_decides_as_its_parts_do(cell: Cell) -> None:
    _check(cell)


def test_the_few_hold_every_two_choices_that_can_meet() -> None:
    def met(cells: list[Cell]) -> set[object]:
        return {two for cell in cells for two in itertools.combinations(enumerate(cell), 2)}

    assert met(FEW) == met(EVERY)
    assert len(FEW) < len(EVERY) / 4


def _check(cell: Cell) -> None:
    pair, inputs, threshold = pair_of(cell), images(100, seed=9), threshold_of(cell)
    session = export._session(pair)
    logits, score, trusted = session.run(["logits", "score", "trusted"], {"image": inputs})
    expected_logits, expected_score = parts_say(cell, inputs)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
    np.testing.assert_allclose(score, expected_score, atol=1e-5)
    far = np.abs(expected_score.astype(np.float64) - threshold) > 1e-5
    np.testing.assert_array_equal(trusted[far], (expected_score >= threshold)[far])
    assert 0 < trusted.sum() < len(trusted)

    bad = session.run(["trusted"], {"image": poisoned(90, seed=8)})[0]
    assert not bad.any()
    lowest = export._session(with_threshold(pair, float(np.finfo(np.float32).min)))
    assert not lowest.run(["trusted"], {"image": poisoned(9, seed=8)})[0].any()
    assert lowest.run(["trusted"], {"image": inputs})[0].all()

    model = onnx.load_model_from_string(pair)
    onnx.checker.check_model(model, full_check=True)
    domains = {item.domain for item in model.opset_import}
    plain = cell.portable or cell.router in ("knn", HEAD) or not cell.features
    assert domains == ({""} if plain else {"", "ai.onnx.ml"})
    for port in (*model.graph.input, *model.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]
