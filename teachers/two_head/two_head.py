"""AppealNet's two-head student: the classifier, and a head that says how far to trust it.

The predictor head is one fully connected layer and a sigmoid on the features that the classifier
reads (section V-A). Its q(1|x) is the share of trust: Eq. 1 keeps an input on the edge where
q(1|x) ≥ δ, so the score is q itself, and higher means trust.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edge import strict
from edge.errors import BadInput
from edge.preprocess import Preprocess
from edge.session import Session
from edge.timing import Timed, least_ms
from envs.compression.cost import FLOAT, Cost
from envs.compression.surgery import load
from envs.export.export import to_onnx
from envs.graph.netspec import NetSpec, Shape
from envs.graph.ops.weighted import Pointwise
from teachers.distillation.checkpoint import Checkpoint
from teachers.distillation.training import predict
from teachers.distillation.training_sets import Images, Rows

#: name of the head among the student's modules
HEAD = "predictor_head"
#: classifiers that read maps; the others read a vector
MAPS = (nn.Conv1d, nn.Conv2d, Pointwise)


class TwoHead(fx.GraphModule):
    """A copy of a student with a predictor head; maps N×C×H×W to N×(K+1).

    The first K columns are the student's logits, the last one is the logit of q(1|x), so that
    whatever trains or runs a classifier can do it with this one; :func:`split` takes them apart.
    Where the classifier is a 1×1 convolution, the head reads the mean of its input over all
    positions. A new head is all zeros: q = ½ everywhere.

    Args:
        student: as :mod:`envs.compression.surgery` builds it; it is copied, and stays as it is.
        tap: name of the last weight layer, the classifier.

    Raises:
        BadInput: the classifier is no linear layer and no 1×1 convolution, or the student has a
            layer of the head's name.
    """

    def __init__(self, student: fx.GraphModule, tap: str) -> None:
        root = copy.deepcopy(student)
        classifier = _classifier(root, tap)
        if HEAD in root._modules:
            raise BadInput(
                "the student has a layer that is called as the predictor head will be",
                value=HEAD,
                bound="any other name",
                remedy="Rename that module of the teacher.",
            )
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        logits = graph.graph_copy(root.graph, copies)
        features = copies[cast(fx.Node, _call(root, tap).args[0])]
        if isinstance(classifier, MAPS):
            flat = graph.call_function(torch.flatten, (features, 2))
            features = graph.call_function(torch.mean, (flat, -1))
        root.add_module(HEAD, _zeros(classifier))
        trust = graph.call_module(HEAD, (features,))
        graph.output(graph.call_function(torch.cat, ((logits, trust), 1)))
        super().__init__(root, graph, "TwoHead")
        self.meta["tap"] = tap

    @property
    def tap(self) -> str:
        """Name of the classifier, whose input both heads read."""
        return cast(str, self.meta["tap"])

    @property
    def head(self) -> nn.Linear:
        """The predictor head before its sigmoid: F features → 1 logit."""
        return cast(nn.Linear, self.get_submodule(HEAD))

    def student_weights(self) -> dict[str, Tensor]:
        """The state dict without the head's: what :func:`envs.compression.surgery.load` takes."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith(f"{HEAD}.")
        }

    def added(self) -> Cost:
        """What the head costs on top of the student; ``peak`` is what it reads and writes."""
        width = self.head.in_features
        numbers = width + 1
        return Cost(numbers, bytes=FLOAT * numbers, macs=width, peak=FLOAT * numbers)


def split(output: Tensor) -> tuple[Tensor, Tensor]:
    """What a :class:`TwoHead` gives, N×(K+1), as logits N×K and the logits of q, N."""
    return output[:, :-1], output[:, -1]


@dataclass(frozen=True)
class Answers:
    """``logits`` float32 N×K, ``trust`` float32 N: the logits of q; ``features`` N×F."""

    logits: NDArray[np.float32]
    trust: NDArray[np.float32]
    features: NDArray[np.float32]

    @property
    def score(self) -> NDArray[np.float32]:
        """q(1|x) in [0, 1], N, in the device's arithmetic; higher = trust."""
        return score_of(self.trust)


def score_of(trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """q(1|x) of its logits, N, as float32: beyond a logit of 17 it is 1."""
    score: NDArray[np.float32] = torch.sigmoid(torch.from_numpy(trust)).numpy()
    return score


def answer(
    network: TwoHead,
    images: Images,
    preprocess: Preprocess,
    *,
    rows: Rows | None = None,
    device: str = "cpu",
) -> Answers:
    """Both heads, and the features that they read, over uint8 images; as in ``predict``."""
    said = predict(network, images, preprocess, rows=rows, tap=HEAD, device=device)
    assert said.features is not None
    output = said.logits
    return Answers(
        np.ascontiguousarray(output[:, :-1]), np.ascontiguousarray(output[:, -1]), said.features
    )


def to_bytes(network: TwoHead) -> bytes:
    """Its weights as one safetensors file, with the name of the tap in the header."""
    state = network.state_dict().items()
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in state}
    return Checkpoint(arrays, {"tap": network.tap}).to_bytes()


def from_bytes(spec: NetSpec, content: bytes) -> TwoHead:
    """Rebuild what :func:`to_bytes` wrote, from the student's description, in eval mode.

    Raises:
        BadInput: a file that it did not write, or weights that do not fit ``spec``.
    """
    try:
        stored = Checkpoint.from_bytes(content)
        weights = {name: torch.from_numpy(array) for name, array in stored.arrays.items()}
        head = {name: weights.pop(f"{HEAD}.{name}", None) for name in ("weight", "bias")}
        network = TwoHead(load(spec, weights), str(stored.meta.get("tap")))
    except BadInput:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad_file(str(error)) from None
    for name, target in network.head.state_dict().items():
        found = head[name]
        if found is None or found.shape != target.shape:
            shape = None if found is None else tuple(found.shape)
            raise _bad_file(f"{HEAD}.{name} of shape {shape}, not {tuple(target.shape)}")
        target.copy_(found)
    network.eval()
    return network


def two_head_to_onnx(network: TwoHead, input_shape: Shape) -> bytes:
    """One ONNX graph: ``image`` N×C×H×W → ``logits`` N×K and ``score`` N, which is q(1|x).

    Exported like a student alone (:func:`envs.export.export.to_onnx`); ``input_shape`` is (C, H,
    W).
    """
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    packed = cast(fx.Node, graph.graph_copy(network.graph, copies))
    logits, trust = cast(tuple[fx.Node, fx.Node], packed.args[0])
    graph.erase_node(packed)
    score = graph.call_function(torch.squeeze, (graph.call_function(torch.sigmoid, (trust,)), 1))
    graph.output((logits, score))
    module = fx.GraphModule(network, graph, "TwoOutputs").train(network.training)
    model = onnx.load_from_string(to_onnx(module, input_shape))
    _rename(model, model.graph.output[1].name, "score")
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one input in ONNX Runtime: the student alone, and with its head."""

    student_ms: float
    two_head_ms: float

    @property
    def ratio(self) -> float:
        """What the decision costs: with the head over without it."""
        return self.two_head_ms / self.student_ms


def time_both(student: bytes, two_head: bytes, *, rounds: int = 100, threads: int = 1) -> Timing:
    """Time both ONNX files in turns, batch 1; the least time of each counts."""
    graphs = [
        _timed(content, name, threads)
        for name, content in (("the student", student), ("the two-head student", two_head))
    ]
    *_, (_, (alone, both)) = least_ms(graphs, rounds, threads)
    return Timing(alone, both)


def _timed(content: bytes, name: str, threads: int) -> Timed:
    session = Session(content, name, threads=threads)
    shape = tuple(cast(int, size) for size in session.inputs[0].shape[1:])
    return Timed(lambda: session, shape, held=len(content))


def _classifier(student: fx.GraphModule, tap: str) -> nn.Module:
    """The layer ``tap``, which must be one whose input a linear head can read."""
    try:
        layer = student.get_submodule(tap)
    except AttributeError:
        raise ValueError(f"the student has no layer {tap!r}") from None
    linear = isinstance(layer, nn.Linear)
    if not linear and not (
        isinstance(layer, nn.Conv1d | nn.Conv2d) and set(layer.kernel_size) == {1}
    ):
        raise BadInput(
            "the student's last layer has no features that a predictor head could read",
            value=f"{tap}: {layer}",
            bound="a linear layer or a 1×1 convolution",
            remedy="Leave the two-head router out.",
        )
    return layer


def _call(student: fx.GraphModule, tap: str) -> fx.Node:
    calls = [
        node for node in student.graph.nodes if node.op == "call_module" and node.target == tap
    ]
    if len(calls) != 1:
        raise ValueError(f"layer {tap!r} is called {len(calls)} times, not once")
    return cast(fx.Node, calls[0])


def _zeros(classifier: nn.Module) -> nn.Linear:
    width = classifier.in_features if isinstance(classifier, nn.Linear) else classifier.in_channels
    head = nn.Linear(cast(int, width), 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Another name for an output of a graph, which no node of it reads."""
    for node in model.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
    for output in model.graph.output:
        output.name = new if output.name == old else output.name


def _bad_file(found: str) -> BadInput:
    return BadInput(
        "the weights of a two-head student cannot be used",
        value=strict.shorten(found, 200),
        bound="a file that understudy wrote for this very student",
        remedy="Take both from the same bundle.",
    )
