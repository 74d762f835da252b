"""From a netspec to a torch module, and the weights a student inherits from its teacher.

A student starts from the teacher's weights (Zhang, Algorithm 1, line 3): of every channel group
it keeps the most important channels, the same ones in every layer that writes or reads the
group; of a kernel it keeps the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edge.errors import BadInput, check_member
from envs.compression.channels import Layout
from envs.compression.criteria import CRITERIA, Weights
from envs.compression.layers import Anatomy, anatomy
from envs.compression.resolve import Carried, Student
from envs.graph.netspec import INPUT, NetSpec, Node
from envs.graph.ops import OPS
from envs.graph.ops.base import Ids
from envs.graph.ops.weighted import depthwise


def build(spec: NetSpec) -> fx.GraphModule:
    """A module with fresh weights that runs a spec; its state dict has the spec's node names."""
    root, graph = nn.Module(), fx.Graph()
    values = {INPUT: graph.placeholder("image")}
    for node in spec.nodes:
        inputs = tuple(values[name] for name in node.inputs)
        module = OPS[node.op].module(node.attrs)
        if module is None:
            function, options = OPS[node.op].function(node.attrs)
            values[node.name] = graph.call_function(function, inputs, options)
        else:
            _attach(root, node.name, module)
            values[node.name] = graph.call_module(node.name, inputs)
    graph.output(values[spec.output.name])
    return fx.GraphModule(root, graph, "Network")


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def _unfilled(spec: NetSpec) -> fx.GraphModule:
    """As :func:`build`, with memory for the weights and nothing in it: drawing them takes time."""
    with torch.device("meta"):
        module = build(spec)
    module.to_empty(device="cpu")
    return module


def load(spec: NetSpec, weights: Weights) -> fx.GraphModule:
    """Rebuild a network from its description and its weights, and nothing else.

    Raises:
        BadInput: weights that are missing, left over or of another shape.
    """
    # from the description alone: a stranger's must not make us allocate what its file does not hold
    expected = {
        f"{node.name}.{tensor}": shape
        for node in spec.nodes
        for tensor, shape in OPS[node.op].tensors(node.attrs).items()
    }
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise BadInput(
            f"the weights do not fit the network description ({len(wrong)} tensors)",
            value=f"{name}: {found.get(name, 'missing')}",
            bound=str(expected.get(name, "no such tensor")),
            remedy="Take both from the same bundle.",
        )
    module = _unfilled(spec)
    module.load_state_dict(dict(weights))
    return module


@dataclass(frozen=True, eq=False)
class Inheritance:
    """The teacher's side of every surgery: its weights and the order of importance.

    Attributes:
        spec: the teacher's description.
        weights: its state dict.
        scores: importance of every channel class, shape (classes,).
        order: channel group → its classes, most important first.
    """

    spec: NetSpec
    weights: Weights
    scores: NDArray[np.float64]
    order: tuple[Ids, ...]

    @classmethod
    def of(cls, spec: NetSpec, weights: Weights, criterion: str = "l1") -> Inheritance:
        """Rank the channels of every group over all its writers.

        Raises:
            BadInput: no such criterion.
        """
        check_member("criterion", criterion, CRITERIA)
        structure = anatomy(spec)
        channels = structure.channels
        scores = np.zeros(len(channels.group))
        for layer in structure.layers:
            importance = CRITERIA[criterion](spec, layer, weights).double().numpy()
            written = channels.layout[layer.node].classes
            votes = np.bincount(written, weights=importance, minlength=len(scores))
            # writers differ in scale; none may outvote the others by its size alone
            scores += votes / max(votes[written].mean(), 1e-12)
        order = tuple(
            members[np.argsort(-scores[members], kind="stable")] for members in channels.members
        )
        return cls(spec, weights, scores, order)

    def student(self, student: Student, seed: int) -> fx.GraphModule:
        """Build a student with the teacher's weights.

        Args:
            student: what :func:`envs.compression.resolve.compress` gave.
            seed: of the few weights that no teacher's layer has (channels behind a removed layer
                that are more than the teacher's).
        """
        module = _unfilled(student.spec)
        graft = _Graft(self, anatomy(self.spec), student)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for node in student.spec.nodes:
                if OPS[node.op].tensors(node.attrs):
                    graft.fill(node, module.get_submodule(node.name))
        return module


class _Graft:
    """Copies the kept part of the teacher's tensors into a student's, in place."""

    def __init__(self, teacher: Inheritance, structure: Anatomy, student: Student) -> None:
        self.teacher, self.channels, self.student = teacher, structure.channels, student
        self.known = {node.name for node in teacher.spec.nodes}
        # the first classes of a group stand for the most important ones, in their own order
        self.true = np.arange(len(self.channels.group))
        for members, order, width in zip(
            self.channels.members, teacher.order, student.widths, strict=True
        ):
            self.true[members[:width]] = np.sort(order[:width])

    def fill(self, node: Node, module: nn.Module) -> None:
        """Write what the teacher has for a node of the student; the rest is drawn."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if node.name not in self.known:
            _identity(tensors["weight"])
            return
        original = self.teacher.spec[node.name]
        parts = {name: self.teacher.weights[f"{node.name}.{name}"] for name in tensors}
        read = self.places(original, self.student.reads[node.name])
        if OPS[node.op].weighted and not depthwise(original.attrs):
            _fill_layer(node, original, parts, tensors, self.written(original), read, module)
            return
        if (read < 0).any():
            module.reset_parameters()  # type: ignore[operator]
        kept = torch.from_numpy(np.flatnonzero(read >= 0))
        rows = torch.from_numpy(read[read >= 0])
        for name, target in tensors.items():
            part = parts[name]
            if part.numel() == 1 and target.numel() == 1:
                target.copy_(part.reshape(target.shape))
            else:
                target[kept] = _centre(part[rows], target.shape[2:])

    def written(self, original: Node) -> Ids:
        """Output channels that a layer keeps."""
        layout = self.channels.layout[original.name]
        kept = layout.classes[self.channels.kept(layout, self.student.widths)]
        return layout.places(self.true[kept])

    def places(self, original: Node, carried: Carried) -> Ids:
        """Which of the teacher's input channels stand for those that the student's node reads.

        A layer behind a removed one reads other channels than the teacher's did. Where both have
        equally many, a removed layer counts as the identity, channel i to channel i; otherwise
        the most important channels stand in. −1 where the teacher has none left.
        """
        layout = self.channels.layout[original.inputs[0]]
        true = self.true[carried.classes]
        places = layout.places(true)
        lost = places < 0
        if not lost.any():
            return places
        if lost.all() and len(carried.whole) == len(layout.classes):
            return Layout(-1, carried.whole, ()).places(true)
        free = np.setdiff1d(np.arange(len(layout.classes)), places[~lost])
        worth = self.teacher.scores[layout.classes[free]]
        spare = np.sort(free[np.argsort(-worth, kind="stable")][: int(lost.sum())])
        places[np.flatnonzero(lost)[: len(spare)]] = spare
        return places


def _fill_layer(
    node: Node,
    original: Node,
    parts: Weights,
    tensors: Mapping[str, Tensor],
    rows: Ids,
    columns: Ids,
    module: nn.Module,
) -> None:
    """A convolution or a linear layer: rows are outputs, columns inputs."""
    groups = node.attrs.get("groups", 1)
    chosen = torch.from_numpy(rows)
    if "bias" in tensors:
        tensors["bias"].copy_(parts["bias"][chosen])
    if (columns < 0).any():
        module.reset_parameters()  # type: ignore[operator]
    target = tensors["weight"]
    # every group has inputs of its own; the teacher's tensor holds each group's from 0 on
    size = original.attrs["in"] // original.attrs.get("groups", 1)
    for wrote, read, part in zip(
        target.chunk(groups), np.split(columns, groups), chosen.chunk(groups), strict=True
    ):
        kept = torch.from_numpy(np.flatnonzero(read >= 0))
        weight = parts["weight"][part][:, torch.from_numpy(read[read >= 0] % size)]
        wrote[:, kept] = _centre(weight, target.shape[2:])


def _centre(weight: Tensor, size: torch.Size) -> Tensor:
    """Centre crop of a kernel whose sides keep their parity."""
    for axis, new in enumerate(size, 2):
        weight = weight.narrow(axis, (weight.shape[axis] - new) // 2, new)
    return weight


def _identity(weight: Tensor) -> None:
    """A projection starts as the identity on the channels that both sides have."""
    weight.zero_()
    both = torch.arange(min(weight.shape[:2]))
    weight[both, both] = 1
