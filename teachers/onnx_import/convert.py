"""A checked graph → a torch module with the same logits, which torch.fx can trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

import numpy as np
import torch
from torch import fx

from edge.errors import BadInput
from teachers.onnx_import.folding import FAULTS, FOLDED, Folder
from teachers.onnx_import.graph import Array, Branch, Node, OnnxGraph
from teachers.onnx_import.layout import check_input, fits_classes, fixed_batch, is_nhwc
from teachers.onnx_import.refusals import REEXPORT, refuse_file
from teachers.onnx_import.step import Step, Writer
from teachers.onnx_import.structure import CUT, in_order, reads
from teachers.onnx_import.table import OPERATORS
from teachers.onnx_import.values import BATCHES, Activation, Constant, Value

#: operators on stored weights that leave them the same weights
REARRANGED = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

Handler = Callable[[Step], "Value | list[Value]"]


def convert(graph: OnnxGraph, input_shape: tuple[int, ...], classes: int | None) -> fx.GraphModule:
    """The module of ``graph``, in eval mode and float32.

    Args:
        graph: see :func:`teachers.onnx_import.structure.read_graph`.
        input_shape: (C, H, W) of one image, in this order whatever the graph's own layout.
        classes: what the logits must number, where it is known.

    Returns:
        A module of torch.nn layers and torch functions: N×C×H×W → N×classes.

    Raises:
        BadInput: names the node that cannot be converted, with the remedy.
    """
    with torch.random.fork_rng(devices=[]):
        # layers draw initial weights, which are overwritten: the caller's generator must not move
        return Conversion(graph, input_shape).module(classes)


class Conversion:
    """The walk over one graph; ``values`` holds every tensor converted so far by its name."""

    def __init__(self, graph: OnnxGraph, input_shape: tuple[int, ...]) -> None:
        check_input(graph, input_shape)
        self.graph = graph
        self.input_shape = input_shape
        self.writer = Writer()
        # some exporters keep weights in nodes
        kept = [value for node in graph.nodes for value in node.attributes.values()]
        arrays = [*graph.constants.values(), *(v for v in kept if isinstance(v, np.ndarray))]
        stored = sum(array.size for array in arrays)
        self.folder = Folder(graph.opset, stored)
        self.reads = Counter(name for node in graph.nodes for name in node.inputs)
        self.reads.update(name for node in graph.nodes for name in reads(node) - set(node.inputs))
        self.reads[graph.output] += 1
        self.values: dict[str, Value] = {}
        self.depth = 0
        self.add_constants(graph.constants)

    def module(self, classes: int | None) -> fx.GraphModule:
        """Convert everything, and prove that the result gives logits for any batch."""
        self.bind(self.graph.input, self._image())
        self.run(self.graph.nodes)
        logits = self.values[self.graph.output]
        if not isinstance(logits, Activation):
            raise refuse_file(
                "the teacher's output does not depend on its image",
                value=self.graph.output,
                bound="logits, batch × classes",
            )
        self._check_logits(logits, classes)
        end = self._flat(logits).call
        self.writer.graph.output(end)
        self.writer.drop_unused()
        allowed = set(_ending(end))
        for call in self.writer.graph.nodes:
            if "refusal" in call.meta and call not in allowed:
                raise call.meta["refusal"]
        self.writer.name_all()
        module = fx.GraphModule(self.writer.root, self.writer.graph, "OnnxTeacher")
        return module.eval()

    def add_constants(self, constants: Mapping[str, Array]) -> None:
        """Make stored tensors known under their names."""
        for name, array in constants.items():
            self.bind(name, Constant(name, (array, array), name))

    def bind(self, name: str, value: Value) -> None:
        """Give a tensor its value; the reads that are to come are counted with it."""
        self.values[name] = value
        if isinstance(value, Activation):
            value.readers += self.reads[name]

    def run(self, nodes: tuple[Node, ...]) -> None:
        """Convert nodes in their order."""
        for node in nodes:
            inputs = self._aligned(
                node, [self.values[name] if name else None for name in node.inputs]
            )
            step = Step(node, inputs, self.graph.opset, self.writer, self._branch)
            found = self._outputs(step)
            unknown = [name for name in node.outputs[len(found) :] if self.reads[name]]
            if unknown:
                raise step.refuse(
                    "has an output that cannot be used",
                    value=unknown[0],
                    bound=f"its first {len(found)} outputs",
                )
            for value in inputs:
                if isinstance(value, Activation) and self.depth == 0:
                    value.readers -= 1
            for name, value in zip(node.outputs, found, strict=False):
                self.bind(name, value)

    def _aligned(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        """Before opset 7 the second operand began at an axis that the node names."""
        axis = node.attributes.get("axis")
        if self.graph.opset >= 7 or not node.attributes.get("broadcast") or axis is None:
            return inputs
        x, other = inputs[0], inputs[1]
        if not isinstance(x, Activation) or not isinstance(other, Constant):
            return inputs
        ones = (1,) * max(0, x.rank - int(axis) % x.rank - other.at[0].ndim)
        at = (other.at[0].reshape(*other.at[0].shape, *ones),) * 2
        return [x, Constant(other.name, at, other.stored)]

    def _outputs(self, step: Step) -> list[Value]:
        constants = [value for value in step.inputs if value is not None]
        folds = step.node.op in FOLDED
        if folds and all(isinstance(value, Constant) for value in constants):
            return self._folded(step)
        module, _, name = OPERATORS[step.node.op].partition(":")
        handler = getattr(import_module(f"teachers.onnx_import.operators.{module}"), name)
        try:
            found = cast(Handler, handler)(step)
        except BadInput:
            raise
        except FAULTS as error:
            raise step.refuse(
                "is not well formed",
                value=f"{type(error).__name__}: {error}",
                bound="inputs and attributes as ONNX defines them",
                remedy=REEXPORT,
            ) from error
        return found if isinstance(found, list) else [found]

    def _folded(self, step: Step) -> list[Value]:
        inputs = cast("tuple[Constant | None, ...]", step.inputs)
        fixed = all(value is None or value.fixed for value in inputs)
        at = [
            self.folder.fold(
                step.node, [None if value is None else value.at[batch] for value in inputs]
            )
            for batch in ((0,) if fixed else (0, 1))
        ]
        first, stored = inputs[0] if inputs else None, ""
        if step.node.op == "Constant":
            stored = step.node.outputs[0]
        elif step.node.op in REARRANGED and first is not None:
            stored = first.stored
        return [
            Constant(name, (at[0][i], at[-1][i]), stored)
            for i, name in enumerate(step.node.outputs[: len(at[0])])
        ]

    def _image(self) -> Activation:
        """The module's input; permuted where the graph wants its channels last."""
        batch = fixed_batch(self.graph)
        sizes = (batch, batch) if batch else BATCHES
        call = self.writer.graph.placeholder("image")
        metas = [torch.empty((size, *self.input_shape), device="meta") for size in sizes]
        image = Activation(call, (metas[0], metas[1]))
        if not is_nhwc(self.graph, self.input_shape):
            return image
        opening = Node(
            "input",
            "Transpose",
            0,
            (self.graph.input,),
            (self.graph.input,),
            {"perm": [0, 2, 3, 1]},
        )
        step = Step(opening, [image], self.graph.opset, self.writer, self._branch)
        return step.call(torch.permute, image, (0, 2, 3, 1))

    def _branch(self, branch: Branch) -> list[Value]:
        """Convert the branch of an If that is taken; its surroundings are known in it."""
        self.add_constants(branch.constants)
        # what a branch reads is counted once, where the If reads it
        self.depth += 1
        self.run(in_order(branch.nodes, self.values.keys()))
        self.depth -= 1
        return [self.values[name] for name in branch.outputs]

    def _flat(self, logits: Activation) -> Activation:
        if logits.rank <= 2:
            return logits
        ending = Node("output", "Flatten", len(self.graph.nodes), (self.graph.output,), ("",))
        step = Step(ending, [logits], self.graph.opset, self.writer, self._branch)
        return step.call(torch.flatten, logits, 1)

    def _check_logits(self, logits: Activation, classes: int | None) -> None:
        shape = tuple(logits.metas[1].shape)
        per_image = shape[1:]
        count = torch.Size(per_image).numel()
        flat = bool(shape) and count == (per_image[0] if per_image else 1)
        if not flat or not fits_classes(count, classes):
            wanted = "classes" if classes is None else f"{classes}, the classes in its JSON"
            raise refuse_file(
                "the teacher's output is not one logit per class",
                value=f"batch × {list(per_image)} from {self.graph.output!r}",
                bound=f"batch × {wanted}",
                remedy=f"Correct classes in the JSON beside it. {CUT}",
            )


#: what may stand between the logits and the output; how it is left out:
#: :mod:`envs.fx_import.reading.endings`
ENDINGS = frozenset(
    {
        torch.add,
        torch.clamp,
        torch.exp,
        torch.flatten,
        torch.log,
        torch.log_softmax,
        torch.mul,
        torch.relu,
        torch.sigmoid,
        torch.softmax,
    }
)


def _ending(call: fx.Node) -> list[fx.Node]:
    """The calls of one tensor and numbers that end in ``call``, the last one first."""
    passed = []
    while call.target in ENDINGS and len(call.all_input_nodes) == 1:
        passed.append(call)
        call = call.all_input_nodes[0]
    return passed
