"""A module as a model."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx

from ..calls import Call
from ..errors import InvalidArgumentError, UnsupportedError
from ..model import InterpretableModel, SiteInfo
from ..sites import Node
from ..trace import pairs
from .runs import Runs
from .trace import ModuleTrace
from .tree import Tree
from .values import leaves, rebuilt, to_mx


class ModuleModel(InterpretableModel):
    """An `mlx.nn.Module` whose every module's input and output can be read and changed.

    Names are the module's own paths (`layers.0.self_attn.output`). Values are `mlx.core` arrays. The module is used as it
    is: what is changed in it between traces counts from the next one on.
    """

    def __init__(self, module: Any, *, tokenizer: Any = None, name: str | None = None) -> None:
        """Looks for the modules of `module`. With a tokenizer (mlx-lm's or transformers') traces take text too."""
        self._handle = 0
        self._module = module
        self._tokenizer = tokenizer
        self._name = name or type(module).__name__
        self.steering = []

    @property
    def module(self) -> Any:
        """The module itself."""
        return self._module

    @property
    def _modules_tree(self) -> Tree:
        # Looked for anew each time: modules may have been added or replaced, and it takes microseconds a module.
        return Tree(self._module)

    # Names.

    @cached_property
    def _node(self) -> Node:
        root = Node("")
        tree = self._modules_tree
        for path in [*tree.modules, *tree.aliases]:
            for side in ("input", "output"):
                root.add(f"{path}.{side}" if path else side)
        return root

    def _other_spelling(self, path: str) -> Node:
        tree = self._modules_tree
        real, rest = tree.split(path if path.rpartition(".")[2] in ("input", "output") else f"{path}.output")
        if path.rpartition(".")[2] in ("input", "output"):
            return Node(f"{real}.{rest}" if real else rest, is_value=True)
        known = Node(path)
        for side in ("input", "output"):
            known.children[side] = Node(f"{path}.{side}", is_value=True)
        below = self._node
        for part in real.split("."):
            below = below.children[part]
        known.children.update({k: v for k, v in below.children.items() if k not in known.children})
        known.count = below.count
        return known

    def _is_site(self, name: str) -> bool:
        try:
            self._modules_tree.split(name)
        except KeyError:
            return False
        return True

    def _module_names(self) -> tuple[str, ...]:
        return tuple(path for path in self._modules_tree.modules)

    def sites(self, pattern: str | None = None) -> list[SiteInfo]:
        """The inputs and outputs that a name or pattern means. A trace's own `sites()` also tells what they hold."""
        tree = self._modules_tree
        if pattern is not None:
            names = tree.matching(pattern)
        else:
            names = [f"{path}.{side}" if path else side for path in tree.modules for side in ("input", "output")]
        # What nobody described nobody can prove; whether gradients pass is the module's affair.
        return [SiteInfo(name, None, (), False, None, True, False) for name in names]

    # What it is.

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The parameters of the module's `__call__`."""
        import inspect

        return tuple(inspect.signature(type(self._module).__call__).parameters)[1:]

    @cached_property
    def info(self) -> dict[str, Any]:
        """The module in numbers, and its tree."""
        tree = self._modules_tree
        arrays = {id(a): a for a in _arrays(tree)}
        modules = [{"path": path, "kind": type(m).__name__} for path, m in tree.modules.items()]
        return {
            "name": self._name, "model_type": type(self._module).__name__, "inputs": list(self.inputs),
            "num_layers": self.num_layers, "parameters": sum(a.size for a in arrays.values()),
            "bytes": sum(a.nbytes for a in arrays.values()), "modules": modules, "shared": dict(tree.aliases),
        }  # fmt: skip

    @property
    def config(self) -> dict[str, Any]:
        """The module's `args` or `config`, as mlx-lm's models have one; empty otherwise."""
        found = getattr(self._module, "args", None) or getattr(self._module, "config", None)
        return dict(found) if isinstance(found, Mapping) else dict(getattr(found, "__dict__", {}))

    @property
    def name(self) -> str:
        """Its class, or the name it was given."""
        return self._name

    @property
    def num_layers(self) -> int:
        """The length of the longest list of modules, usually that of layers."""
        counts: dict[str, int] = {}
        for path in self._modules_tree.modules:
            above, _, last = path.rpartition(".")
            if last.isdigit():
                counts[above] = counts.get(above, 0) + 1
        return max(counts.values(), default=0)

    def _unknown(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{what} of an mlx.nn.Module is not known to mlxterp: ask the module itself (model.module)")

    @property
    def num_heads(self) -> int:
        raise self._unknown("the number of heads")

    @property
    def hidden_size(self) -> int:
        raise self._unknown("the hidden size")

    @property
    def vocab_size(self) -> int:
        raise self._unknown("the vocabulary")

    @property
    def dtype(self) -> Any:
        """The dtype of its first parameter."""
        from ..dtypes import dtype_of

        found = next(_arrays(self._modules_tree), None)
        return dtype_of("float32" if found is None else str(found.dtype).rpartition(".")[2])

    def _text(self, door: Any, *arguments: Any) -> str:
        raise self._unknown("what this asks for")

    def __str__(self) -> str:
        return str(self._module)

    def __repr__(self) -> str:
        return f"InterpretableModel({self._name}, {len(self._modules_tree.modules)} modules)"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    # Running it.

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, tuple[int, ...]]:
        """The arguments as the module gets them, and the rows of each call of a batch of several."""
        first = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(first, Call):
            return self._converted(first), ()
        if isinstance(first, Sequence) and first and all(isinstance(c, Call) for c in first):
            return _together([self._converted(c) for c in first])
        return self._converted(Call(args, kwargs)), ()

    def _converted(self, call: Call) -> Call:
        """Our arrays as MLX's, and text as token ids where a tokenizer is known."""
        from ..array import Array

        def one(keys: Any, leaf: Any) -> Any:
            return to_mx(leaf) if isinstance(leaf, Array) else leaf

        args, kwargs = rebuilt((call.args, call.kwargs), one)
        if args and isinstance(args[0], str) and self._tokenizer is not None:
            args = (mx.array([self._tokenizer.encode(args[0])]), *args[1:])
        return Call(args, kwargs)

    def trace(  # type: ignore[override]
        self, *args: Any, interventions: Any = None, keep: str = "read", strict: bool = False, **kwargs: Any
    ) -> ModuleTrace:
        """Starts a call of the module with these arguments. Nothing is computed yet.

        interventions, keep and strict are the trace's own, as for any model; a module that has parameters of these names
        gets them through `call`: `model.trace(mlxterp.call(x, keep=3))`. A list of calls is one batch: arrays are put
        together along their first axis, and `trace.of(i)` gives the rows of each.
        """
        call, rows = self._given(args, kwargs)
        trace = ModuleTrace(self, Runs(self._modules_tree, call), keep, strict, rows)
        trace.start([pair for s in self.steering for pair in s.interventions] + pairs(interventions))
        return trace

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives, without steering."""
        call, _ = self._given(args, kwargs)
        return self._module(*call.args, **call.kwargs)

    def plan(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError("a module says what it holds when it runs: trace(…).sites() lists it, and computes nothing")


def _arrays(tree: Tree) -> Iterator[Any]:
    """Every array that a module of the tree holds, also where mlx.nn.Module.parameters() goes round in circles."""
    for module in tree.modules.values():
        for value in module.values():
            yield from (a for _, a in leaves(value) if isinstance(a, mx.array))


def _together(calls: list[Call]) -> tuple[Call, tuple[int, ...]]:
    """Several calls as one: arrays joined along their first axis, everything else the same in all."""
    given = [dict(leaves({"args": list(c.args), "kwargs": c.kwargs})) for c in calls]
    for i, other in enumerate(given[1:], 1):
        if set(other) != set(given[0]):
            raise InvalidArgumentError(f"call {i} has other arguments than call 0: a batch needs the same in all")
    rows: tuple[int, ...] = ()
    for keys, value in given[0].items():
        all_ = [g[keys] for g in given]
        where = ".".join(keys[1:])
        if not isinstance(value, mx.array):
            if any(v is not value and v != value for v in all_):
                raise InvalidArgumentError(f"argument '{where}' differs between the calls and is no array")
            continue
        shapes = {tuple(v.shape[1:]) for v in all_}
        if value.ndim == 0 or len(shapes) > 1:
            shown = ", ".join(str(tuple(v.shape)) for v in all_)
            raise InvalidArgumentError(f"argument '{where}' cannot be one batch: its shapes are {shown}; pad them first")
        rows = rows or tuple(v.shape[0] for v in all_)

    def joined(keys: Any, leaf: Any) -> Any:
        return mx.concatenate([g[keys] for g in given], axis=0) if isinstance(leaf, mx.array) else leaf

    whole = rebuilt({"args": list(calls[0].args), "kwargs": calls[0].kwargs}, joined)
    return Call(tuple(whole["args"]), whole["kwargs"]), rows
