"""Networks for BGR images (OpenCV's, Caffe's) as networks for RGB images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from envs.graph.netspec import INPUT, NetSpec, Node

TURNED = [2, 1, 0]


def for_rgb(spec: NetSpec, weights: Mapping[str, Tensor]) -> tuple[NetSpec, dict[str, Tensor]]:
    """The same function of an image whose three channels stand in the reverse order.

    Where convolutions alone read the image, their weights are turned, which costs nothing; else
    an operator that turns the image is put in front.
    """
    readers = [node for node in spec.nodes if INPUT in node.inputs]
    changed = dict(weights)
    if all(node.op == "conv2d" and node.attrs["groups"] == 1 for node in readers):
        for node in readers:
            key = f"{node.name}.weight"
            changed[key] = changed[key][:, TURNED].contiguous()
        return spec, changed
    names = {node.name for node in spec.nodes}
    name = next(n for n in ("rgb_to_bgr", "image_rgb_to_bgr", "understudy_bgr") if n not in names)
    first = Node(name, "select", (INPUT,), {"index": TURNED}, spec.input_shape)
    nodes = [
        replace(node, inputs=tuple(name if given == INPUT else given for given in node.inputs))
        for node in spec.nodes
    ]
    return NetSpec(spec.input_shape, (first, *nodes)), changed
