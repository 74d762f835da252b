"""Networks as ONNX: input ``image`` N×C×H×W, output ``logits`` N×K, any batch size."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import nn

from envs.export.tidy import BATCH, tidy
from envs.graph.netspec import Shape

OPSET = 18


def to_onnx(module: nn.Module, input_shape: Shape) -> bytes:
    """The serialised model; weights inside, batch norm folded into the convolutions.

    Args:
        module: maps N×C×H×W to N×K; exported in eval mode, its own mode restored.
        input_shape: (C, H, W).
    """
    example = torch.zeros(2, *input_shape)
    was_training = module.training
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # the exporter warns of its own internals, which no user can mend
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
        module.train(was_training)
    assert program is not None
    # the exporter notes where on this machine each node comes from: half of a small file
    model = tidy(program.model_proto, "student")
    return bytes(model.SerializeToString(deterministic=True))
