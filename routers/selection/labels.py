"""What a router learns to predict: is the student right on this row?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def student_right(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """1 where the largest logit is the label's (*normal*), 0 elsewhere (*complex*; Zhang V-B).

    ``logits``: float N×K; ``labels``: int N. The first wins among equal logits, as in ONNX
    Runtime's ArgMax. Raises ValueError where the shapes do not fit.
    """
    if logits.ndim != 2 or labels.shape != (len(logits),):
        raise ValueError(
            f"logits must be N×K and labels N, got shapes {logits.shape} and {labels.shape}"
        )
    right: NDArray[np.int64] = (logits.argmax(axis=1) == labels).astype(np.int64)
    return right
