"""From a netspec to a torch module, and the weights a student inherits from its teacher.

A student starts from the teacher's weights (Zhang, Algorithm 1, line 3): of every channel group
it keeps the most important channels, the same ones in every layer that writes or reads the
group; of a kernel it keeps the centre.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edge.errors import BadInput
from envs.layers import Anatomy, anatomy
from envs.netspec import INPUT, NetSpec, Node
from envs.ops import OPS
from envs.resolve import Student

Weights = Mapping[str, Tensor]

#: importance of the filters of one layer: weight (out, in, …) → score (out,)
Criterion = Callable[[Tensor], Tensor]


def l1_norm(weight: Tensor) -> Tensor:
    """Sum of magnitudes of every filter."""
    return weight.flatten(1).abs().sum(1)


CRITERIA: dict[str, Criterion] = {"l1": l1_norm}


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
    module = build(spec)
    module.load_state_dict(dict(weights))
    return module


@dataclass(frozen=True)
class Inheritance:
    """The teacher's side of every surgery: its weights and the order of importance.

    Attributes:
        spec: the teacher's description.
        weights: its state dict.
        order: channel group → channels, most important first.
    """

    spec: NetSpec
    weights: Weights
    order: Mapping[int, Tensor]

    @classmethod
    def of(cls, spec: NetSpec, weights: Weights, criterion: str = "l1") -> Inheritance:
        """Rank the channels of every group over all its writers."""
        structure = anatomy(spec)
        scores = {
            group: torch.zeros(width, dtype=torch.float64)
            for group, width in structure.width.items()
        }
        for layer in structure.layers:
            importance = CRITERIA[criterion](weights[f"{layer.node}.weight"]).double()
            importance = importance.reshape(len(scores[layer.group]), -1).sum(1)
            # writers differ in scale; none may outvote the others by its size alone
            scores[layer.group] += importance / importance.mean().clamp_min(1e-12)
        order = {
            group: torch.argsort(score, descending=True, stable=True)
            for group, score in scores.items()
        }
        return cls(spec, weights, order)

    def student(self, student: Student, seed: int) -> fx.GraphModule:
        """Build a student with the teacher's weights.

        Args:
            student: what :func:`envs.resolve.compress` gave.
            seed: of the few weights that no teacher's layer has (projections and their like).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build(student.spec)
        graft = _Graft(self, anatomy(self.spec), student)
        state = module.state_dict()
        with torch.no_grad():
            for node in student.spec.nodes:
                for tensor in OPS[node.op].tensors(node.attrs):
                    graft.fill(node, tensor, state[f"{node.name}.{tensor}"])
        return module


class _Graft:
    """Copies the kept part of the teacher's tensors into a student's, in place."""

    def __init__(self, teacher: Inheritance, structure: Anatomy, student: Student) -> None:
        self.teacher, self.structure, self.student = teacher, structure, student
        self.known = {node.name for node in teacher.spec.nodes}

    def kept(self, group: int) -> Tensor:
        """Channels of a group that the student keeps, ascending."""
        return self.teacher.order[group][: self.student.width[group]].sort().values

    def columns(self, wanted: int, carried: int) -> Tensor:
        """Which of the teacher's input channels a layer keeps.

        A layer behind a removed one reads another group than the teacher's did (``wanted``). In
        groups of equal size a removed layer counts as the identity, channel i to channel i;
        otherwise the most important channels stand in.
        """
        if self.structure.width[wanted] == self.structure.width[carried]:
            return self.kept(carried)
        return self.teacher.order[wanted][: self.student.width[carried]].sort().values

    def fill(self, node: Node, tensor: str, target: Tensor) -> None:
        """Write what the teacher's tensor has for the student's; the rest stays as it was drawn."""
        if node.name not in self.known:
            if tensor == "weight":
                _identity(target)
            return
        original = self.teacher.spec[node.name]
        part = self.teacher.weights[f"{node.name}.{tensor}"]
        if OPS[node.op].weighted:
            rows = self.kept(self.structure.group[node.name])
            part = part[_spread(rows, self.structure.pixels(node.name, original.shape))]
            if part.dim() > 1:
                part = part[:, self.inputs(node, original)]
            if part.dim() == 4:
                part = _centre(part, target.shape[2:])
        elif part.dim():
            part = part[self.inputs(node, original)]
        both = tuple(slice(min(sizes)) for sizes in zip(part.shape, target.shape, strict=True))
        target[both].copy_(part[both])

    def inputs(self, node: Node, original: Node) -> Tensor:
        """Indices of the teacher's input features that an operator of the student reads."""
        source = original.inputs[0]
        columns = self.columns(self.structure.group[source], self.student.reads[node.name])
        pixels = self.structure.pixels(source, self.teacher.spec.shape_of(source))
        return _spread(columns, pixels)


def _spread(channels: Tensor, pixels: int) -> Tensor:
    """Channels of maps → features of the flattened maps, where every channel has its pixels."""
    return (channels[:, None] * pixels + torch.arange(pixels)).flatten()


def _centre(weight: Tensor, size: torch.Size) -> Tensor:
    """Centre crop of a kernel whose sides keep their parity."""
    top, left = ((old - new) // 2 for old, new in zip(weight.shape[2:], size, strict=True))
    return weight[:, :, top : top + size[0], left : left + size[1]]


def _identity(weight: Tensor) -> None:
    """A projection starts as the identity on the channels that both sides have."""
    weight.zero_()
    both = torch.arange(min(weight.shape[:2]))
    weight[both, both] = 1
