"""What a module calls on its way from the image to the logits, as a torch.fx graph.

The forward method runs once, on tensors that have shapes but no numbers (torch's meta device), so
every node of the graph knows its output's shape and every size that the code asks for is an
ordinary int: ``if x.shape[2] > 7`` and ``x.view(x.size(0), -1)`` need no care. Only a branch on
the numbers themselves cannot be followed.
"""

from __future__ import annotations

import inspect
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from edge import strict
from edge.errors import BadInput
from envs.fx_import.reading.axes import BATCH_SIZE
from envs.graph.netspec import Shape
from envs.graph.ops import OPS

#: keys of ``node.meta``: the output without its numbers, the path of the module that calls, and
#: whether the call writes over its first argument
VALUE, PATH, OVERWRITES = "understudy_value", "understudy_path", "understudy_overwrites"


def capture(module: nn.Module, input_shape: Shape, known: Callable[[nn.Module], bool]) -> fx.Graph:
    """The calls of a module in eval mode.

    Args:
        module: maps a batch of images to logits; its modes are as before afterwards.
        input_shape: of one image, (C, H, W) or (C, L).
        known: whether a module is one call; into others we look.

    Raises:
        BadInput: control flow that depends on the data, a second input, or layers that do not
            fit each other.
    """
    _check_inputs(module)
    tracer = _Tracer(input_shape, known, next(module.parameters(), torch.empty(0)).device)
    with eval_mode(module), torch.no_grad(), warnings.catch_warnings():
        # what torch warns of concerns those who run the teacher, not those who describe it
        warnings.simplefilter("ignore")
        try:
            graph = tracer.trace(module)
            for node in graph.nodes:
                if node.op != "output":
                    tracer.value(node)
            return graph
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"the teacher cannot be traced{_called_in(tracer.path)}",
                value=strict.shorten(f"{type(error).__name__}: {error}", 200),
                bound="a module whose forward torch.fx can trace (no branches on the data)",
                remedy="Take data-dependent control flow out of the forward method.",
            ) from None


def place(node: fx.Node, number: int, total: int | None = None) -> str:
    """Where a call stands, for messages."""
    count = f" of {total}" if total else ""
    path = str(node.target) if node.op == "call_module" else node.meta.get(PATH, "")
    return f"node {number}{count} ({node.name}){_called_in(path)}"


def operator_name(root: nn.Module, node: fx.Node) -> str:
    """What a node calls: the class of a module, or the name of a function or method."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def unsupported(operator: str, where: str) -> BadInput:
    """The error of a call that nobody reads."""
    return BadInput(
        f"the teacher has an unsupported operator at {where}",
        value=operator,
        bound="one of " + ", ".join(OPS),
        remedy="Rebuild the teacher with supported operators alone.",
    )


def tensors_in(value: object) -> list[Tensor]:
    """The tensors in what a call gave."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def _without_devices(given: Any) -> Any:
    """Arguments without the devices in them: tensors without numbers are on none."""
    if isinstance(given, tuple | list) and not isinstance(given, torch.Size):
        return type(given)(_without_devices(each) for each in given)
    if isinstance(given, dict):
        return {key: _without_devices(each) for key, each in given.items()}
    return torch.device("meta") if isinstance(given, torch.device) else given


def _called_in(path: str) -> str:
    return f" in the module {path!r}" if path else ""


def _check_inputs(module: nn.Module) -> None:
    required = [
        name
        for name, parameter in inspect.signature(type(module).forward).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) > 2:  # self and the image
        raise BadInput(
            f"the teacher cannot be described at {required[2]}",
            value="a second input",
            bound="one image as the only input",
            remedy="Rebuild the teacher in that form.",
        )


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """All parts of a module in eval mode; afterwards each as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class _Tensor(fx.Proxy):
    """Stands for a tensor in the forward method; its shape, rank and type are real."""

    tracer: _Tracer

    def __getattr__(self, name: str) -> Any:
        if name == "device":
            # constants that the code makes there shall have their numbers
            return self.tracer.device
        found = getattr(self.tracer.value(self.node), name, None)
        if isinstance(found, Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        if found is None or callable(found):
            return super().__getattr__(name)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        where = f"node {len(self.tracer.graph.nodes)}{_called_in(self.tracer.path)}"
        raise unsupported("an assignment to a part of a tensor, x[...] = ...", where)

    # without these, Python would take ``x += y`` for ``x = x + y`` and other names of x would
    # keep their old value
    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    """Runs every call on meta tensors as it is written down."""

    # buffers are nodes, as parameters are, so that arithmetic on them keeps their names
    proxy_buffer_attributes = True

    def __init__(
        self, input_shape: Shape, known: Callable[[nn.Module], bool], device: torch.device
    ) -> None:
        super().__init__()
        self.input_shape, self.known, self.device = input_shape, known, device
        self.path = ""
        self._running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.DataParallel):  # a wrapper, though it is one of torch's own
            return False
        compiled = isinstance(m, torch.jit.ScriptModule)
        return self.known(m) or compiled or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Tensor(node, self)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        # the image alone: whatever else the forward method takes has a default
        return root_fn, [self.root, self.create_proxy("placeholder", "image", (), {})]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self._running or not self._installed(m):
            # made in the forward method: its own calls are read instead
            return forward(*args, **kwargs)
        # left where it is by an exception, so that the message can say where that was
        around, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = around
        return result

    def _installed(self, module: nn.Module) -> bool:
        """Whether a module is part of the teacher."""
        return any(part is module for part in self.root.modules())

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        proxy = super().create_proxy(*args, **kwargs)
        node = proxy.node
        node.meta[PATH] = self.path
        value = self.value(node)
        if not tensors_in(value):
            self.graph.erase_node(node)
            return value
        if isinstance(value, Tensor):
            return proxy
        parts = [
            self.create_proxy("call_function", operator.getitem, (proxy, index), {})
            for index in range(len(value))
        ]
        # torch.max(x, 1) gives a named tuple, which is made of one sequence
        return tuple(parts) if type(value) in (tuple, list) else type(value)(parts)

    def value(self, node: fx.Node) -> Any:
        """What a node gives, without numbers."""
        if VALUE not in node.meta:
            node.meta[VALUE] = self._run(node)
        return node.meta[VALUE]

    def _run(self, node: fx.Node) -> Any:
        args, kwargs = _without_devices(fx.map_arg((node.args, node.kwargs), self.value))
        target = node.target
        if target == "to":
            args = tuple(torch.device("meta") if isinstance(arg, str) else arg for arg in args)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        version = first._version if first is not None else 0
        self._running = True
        try:
            if node.op == "placeholder":
                return torch.empty(BATCH_SIZE, *self.input_shape, device="meta")
            if node.op == "get_attr":
                return operator.attrgetter(str(target))(self.root).detach().to("meta")
            if node.op == "call_module":
                result = self._run_module(self.root.get_submodule(str(target)), args, kwargs)
            elif target in ("cpu", "cuda"):
                result = args[0]
            elif node.op == "call_method":
                result = getattr(args[0], str(target))(*args[1:], **kwargs)
            else:
                assert callable(target)
                result = target(*args, **kwargs)
        except Exception as error:
            raise self._does_not_run(node, error) from None
        finally:
            self._running = False
        node.meta[OVERWRITES] = first is not None and first._version != version
        return result

    @staticmethod
    def _run_module(module: nn.Module, args: Any, kwargs: Any) -> Any:
        state = {
            name: tensor.detach().to("meta")
            for part in (module.named_parameters(), module.named_buffers())
            for name, tensor in part
        }
        # hooks such as weight_norm's write what they compute into the module
        attributes = dict(vars(module))
        try:
            return torch.func.functional_call(module, state, args, kwargs)
        finally:
            vars(module).update(attributes)

    def _inputs(self, node: fx.Node) -> list[Any]:
        return [self.value(each) for each in node.all_input_nodes]

    def _does_not_run(self, node: fx.Node, error: Exception) -> BadInput:
        where = place(node, list(self.graph.nodes).index(node))
        name = operator_name(self.root, node)
        if node.op == "call_module" and not self.known(self.root.get_submodule(str(node.target))):
            return unsupported(name, where)
        shapes = [tuple(tensor.shape) for tensor in tensors_in(self._inputs(node))]
        message = f"{name} of {', '.join(map(str, shapes))}: {str(error).partition(chr(10))[0]}"
        message = re.sub(rf"\b{BATCH_SIZE}\b", "N", message)
        return BadInput(
            f"the teacher does not run on its input at {where}",
            value=strict.shorten(message, 200),
            bound=f"layers that fit an input of {tuple(self.input_shape)}",
            remedy="Check `input` in the teacher's JSON.",
        )
