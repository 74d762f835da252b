from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from teachers.distillation.checkpoint import Checkpoint


def test_numbers_and_facts_come_back_as_they_were() -> None:
    arrays: dict[str, NDArray[Any]] = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "step": np.array(7, np.float32),
        "count": np.array([3], np.int64),
    }
    meta = {"epoch": 3, "reports": [{"loss": 0.5, "accuracy": None}]}
    content = Checkpoint(arrays, meta).to_bytes()
    back = Checkpoint.from_bytes(content)
    assert back.meta == meta
    assert set(back.arrays) == set(arrays)
    for name, array in arrays.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        np.testing.assert_array_equal(back.arrays[name], array)
    assert back.nbytes == 24 + 4 + 8


def test_a_part_is_a_copy_of_what_bears_its_name() -> None:
    arrays = {"best.a": np.ones(2), "best.b.c": np.zeros(1), "bester": np.ones(1)}
    part = Checkpoint(arrays, {}).part("best")
    assert list(part) == ["a", "b.c"]
    part["a"][0] = 5
    assert arrays["best.a"].tolist() == [1, 1]


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", bytes(64)])
def test_other_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        Checkpoint.from_bytes(content)
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint"):
        Checkpoint.meta_of(tmp_path / "x")


def test_the_facts_alone_are_read_from_the_head_of_a_file(tmp_path: Path) -> None:
    content = Checkpoint({"weight": np.zeros(100, np.float32)}, {"accuracy": 0.5}).to_bytes()
    (tmp_path / "x").write_bytes(content[:-300])
    assert Checkpoint.meta_of(tmp_path / "x") == {"accuracy": 0.5}


def test_a_torn_file_is_refused() -> None:
    content = Checkpoint({"weight": np.zeros(100, np.float32)}, {"epoch": 1}).to_bytes()
    with pytest.raises(ValueError, match="no checkpoint"):
        Checkpoint.from_bytes(content[:-10])
