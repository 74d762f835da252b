"""What has to hold of every student of every teacher, worked out apart from the code it tests."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, fx, nn

from envs.compression.cost import Cost, cost, costs
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.compression.surgery import Inheritance, load
from envs.export.export import to_onnx
from envs.fx_import.trace import Traced
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec, Shape

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


class Meter(fx.Interpreter):
    """Runs a module call by call, counts its multiply-accumulates and the numbers it holds."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs = self.peak = 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output":
            return result
        if n.op == "call_module" and isinstance(layer := self.fetch_attr(str(n.target)), LAYERS):
            # every number of the output is a product of one filter with as many inputs
            self.macs += result[0].numel() * layer.weight[0].numel()
        # the interpreter forgets a value once its last reader has run, which is after this call
        held = [value for value in self.env.values() if isinstance(value, Tensor)]
        self.peak = max(self.peak, sum(value[0].numel() for value in [*held, result]))
        return result


def measured(module: fx.GraphModule, images: Tensor) -> Cost:
    """Cost of a module as it stands and runs."""
    meter = Meter(module)
    with torch.no_grad():
        meter.run(images)
    return Cost(
        sum(parameter.numel() for parameter in module.parameters()),
        sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        meter.macs,
        4 * meter.peak,
    )


def images_of(shape: Shape, rows: int) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(7))


def apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two batches of logits, against 1 or the largest logit."""
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def prove(
    traced: Traced, moves: Moves, actions: Sequence[int], inheritance: Inheritance | None = None
) -> tuple[Student, fx.GraphModule]:
    """Build a student, and hold against each other what is said of it and what it does."""
    spec = traced.spec
    student = compress(spec, moves, actions)
    inheritance = inheritance or Inheritance.of(spec, traced.weights)
    module = inheritance.student(student, seed=0).eval()
    _runs(module, spec)
    found = measured(module, images_of(spec.input_shape, 2))
    assert cost(student.spec) == found
    assert costs(spec, moves, np.array([actions]))[0] == found
    _is_rebuilt(student, module)
    return student, module


def _runs(module: fx.GraphModule, spec: NetSpec) -> None:
    """Forward on two batch sizes, backward on both."""
    module.train()
    for rows in (2, 5):
        module.zero_grad()
        logits = module(images_of(spec.input_shape, rows))
        assert logits.shape == (rows, spec.classes)
        assert torch.isfinite(logits).all()
        loss = nn.functional.cross_entropy(logits, torch.arange(rows) % spec.classes)
        torch.autograd.backward(loss)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
    module.eval()


def _is_rebuilt(student: Student, module: nn.Module) -> None:
    """From its description and the bytes of its weights, and nothing else."""
    text = student.spec.to_json()
    spec = parse_netspec(text)
    assert spec.to_json() == text
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    again = load(spec, load_tensors(save_tensors(state))).eval()
    images = images_of(spec.input_shape, 3)
    with torch.no_grad():
        assert torch.equal(again(images), module(images))


def prove_counts(spec: NetSpec, moves: Moves, actions: Sequence[Sequence[int]]) -> None:
    """A batch of candidates costs what each of its students costs."""
    found = costs(spec, moves, np.array(actions))
    for place, each in enumerate(actions):
        assert found[place] == cost(compress(spec, moves, each).spec)


def prove_keeping(module: nn.Module, traced: Traced, moves: Moves) -> None:
    """All-ones actions give the teacher back, within 1e-6.

    Some random networks magnify the rounding of single precision (a norm over two nearly equal
    numbers); how much is seen from the teacher in double precision, and granted on top.
    """
    keep = [moves.keep] * len(anatomy(traced.spec).layers)
    student = compress(traced.spec, moves, keep)
    assert cost(student.spec) == cost(traced.spec)
    again = Inheritance.of(traced.spec, traced.weights).student(student, seed=0).eval()
    images = images_of(traced.spec.input_shape, 3)
    with torch.no_grad():
        expected = module(images)
        exact = deepcopy(module).double()(images.double())
        assert apart(again(images), expected) <= 1e-6 + 10 * apart(expected, exact)
        assert apart(again.double()(images.double()), exact) <= 1e-9


def prove_export(module: nn.Module, shape: Shape) -> None:
    """ONNX Runtime gives the same logits, at any batch size."""
    session = ort.InferenceSession(to_onnx(module, shape), providers=["CPUExecutionProvider"])
    images = images_of(shape, 5)
    with torch.no_grad():
        expected = module.eval()(images)
    for rows in (1, 5):  # torch itself refuses a group norm over a single number
        (found,) = session.run(None, {"image": images[:rows].numpy()})
        assert found.dtype == np.float32
        assert apart(torch.from_numpy(found), expected[:rows]) <= 1e-4


def random_actions(spec: NetSpec, moves: Moves, number: int, seed: int) -> list[list[int]]:
    """Legal action vectors, every coefficient of a layer as likely as any other."""
    rng = np.random.default_rng(seed)
    legal = [np.flatnonzero(mask) for mask in moves.masks(anatomy(spec).layers)]
    return [[int(rng.choice(options)) for options in legal] for _ in range(number)]
