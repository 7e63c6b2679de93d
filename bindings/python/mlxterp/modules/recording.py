"""One run of a module: what went in and out of every call, and what was put in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx

from ..calls import Call
from ..errors import UnknownSiteError
from .graph import Graph
from .patches import running, wrapped
from .tree import Tree
from .values import Keys, at, leaves, own, rebuilt


class Leaf(NamedTuple):
    """One array of a run."""

    path: str
    number: int
    side: str
    keys: Keys

    @property
    def name(self) -> str:
        """As users write it."""
        keys = self.keys
        parts = [self.path] if self.path else []
        # The first argument is the input.
        parts += [self.side, *(keys[1:] if self.side == "input" and keys[:1] == ("0",) else keys)]
        return ".".join(parts) + (f"#{self.number}" if self.number else "")


class Noted(NamedTuple):
    """One call of a module."""

    path: str
    number: int
    #: The arguments, and the result, as noted: arrays of our own.
    given: Call
    result: Any
    #: The leaves of this call and of those inside it stand from here to there in the order of the run.
    start: int
    stop: int


#: Changes a value on its way: told its leaf, gives the new value, or the very same.
Change = Callable[[Leaf, Any], Any]


class Record:
    """What a run came to. Never changed once made; forks share it."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, int], Noted] = {}
        #: Values by leaf, in the order in which they came.
        self.values: dict[Leaf, Any] = {}
        self.places: dict[Leaf, int] = {}
        self.result: Any = None
        #: The leaves in order, once the run has ended.
        self.order: list[Leaf] = []
        #: The arguments as the run left them: copies of the caller's, a cache among them filled.
        self.arguments: Call | None = None

    def structure(self, path: str, number: int, side: str, keys: Keys) -> tuple[Keys, Any]:
        """A noted value or structure with the way to it; UnknownSiteError when the run has none."""
        noted = self.calls.get((path, number))
        shown = path or "the module itself"
        if noted is None:
            times = sum(1 for p, _ in self.calls if p == path)
            said = "was not called in this run" if not times else f"was called {times} times: #0 to #{times - 1}"
            raise UnknownSiteError(f"no site '{Leaf(path, number, side, keys).name}': '{shown}' {said}")
        if side == "output":
            whole, way = noted.result, keys
        else:
            whole = {**{str(i): a for i, a in enumerate(noted.given.args)}, **noted.given.kwargs}
            if not whole:
                raise UnknownSiteError(f"'{shown}' was called without arguments")
            # The input is the first argument; its parts may be named without saying so.
            first = next(iter(whole))
            way = keys if keys and keys[0] in whole else (first, *keys)
        try:
            return way, at(whole, way)
        except KeyError:
            found = ", ".join(".".join(k) for k, _ in leaves(whole)) or "one value"
            raise UnknownSiteError(
                f"no '{'.'.join(keys)}' in '{side}' of '{shown}': it has {found}"
            ) from None


class Recorder:
    """A run under way."""

    def __init__(self, tree: Tree, change: Change, before: Record | None, stale: set[Leaf]) -> None:
        self._tree = tree
        self._change = change
        #: An earlier run whose calls may be taken over where nothing in them is stale.
        self._before = before
        self._stale = stale
        self._counts: dict[str, int] = {}
        self.record = Record()

    def knows(self, module: Any) -> bool:
        return id(module) in self._tree.paths

    def _note(self, path: str, number: int, side: str, value: Any) -> tuple[Any, Any]:
        """The value to go on with, and the same as noted."""
        record = self.record

        def one(keys: Keys, leaf: Any) -> Any:
            if not isinstance(leaf, mx.array):
                return leaf
            site = Leaf(path, number, side, keys)
            new = self._change(site, leaf)
            record.places[site] = len(record.values)
            record.values[site] = own(new)
            return new

        on = rebuilt(value, one)
        return on, rebuilt(on, lambda keys, leaf: own(leaf))

    def call(self, module: Any, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a module of the tree."""
        path = self._tree.paths[id(module)]
        number = self._counts.get(path, 0)
        taken = self._taken_over(path, number)
        if taken is not None:
            return rebuilt(taken.result, lambda keys, leaf: own(leaf))
        self._counts[path] = number + 1
        start = len(self.record.values)
        # Arguments by position are named by their number, as the others by their names.
        named = {**{str(i): a for i, a in enumerate(args)}, **kwargs}
        on, noted = self._note(path, number, "input", named)
        given = Call(tuple(noted[str(i)] for i in range(len(args))), {k: noted[k] for k in kwargs})
        result = original(module, *(on[str(i)] for i in range(len(args))), **{k: on[k] for k in kwargs})
        result, kept = self._note(path, number, "output", result)
        self.record.calls[path, number] = Noted(path, number, given, kept, start, len(self.record.values))
        return result

    def _taken_over(self, path: str, number: int) -> Noted | None:
        """A call of the earlier run, noted again as it was, if nothing in it is stale."""
        before = self._before
        noted = None if before is None else before.calls.get((path, number))
        # The root is never taken over: what it gives is what was asked for.
        if before is None or noted is None or not path or noted.start != len(self.record.values):
            return None
        inside = before.order[noted.start : noted.stop]
        if any(leaf in self._stale for leaf in inside):
            return None
        for leaf in inside:
            self.record.places[leaf] = len(self.record.values)
            self.record.values[leaf] = before.values[leaf]
        for key, call in before.calls.items():
            if noted.start <= call.start and call.stop <= noted.stop:
                self.record.calls[key] = call
                self._counts[call.path] = max(self._counts.get(call.path, 0), call.number + 1)
        return noted

    def run(self, arguments: Call) -> Record:
        """Calls the module."""
        with wrapped(type(m) for m in self._tree.modules.values()), running(self):
            self.record.result = self._tree.root(*arguments.args, **arguments.kwargs)
        self.record.arguments = arguments
        self.record.order = list(self.record.values)
        return self.record


class Dependence:
    """Which leaves of a run depend on which, seen from a run whose every leaf is a node of its own."""

    def __init__(self, record: Record) -> None:
        self._leaves = record.order
        self._names = {leaf: f"v{i}" for i, leaf in enumerate(self._leaves)}
        marked = {self._names[leaf]: value for leaf, value in record.values.items()}
        self._graph = Graph(marked)
        # A value computed inside the run hides what it came from: then everything later may depend on it.
        self.is_known = not self._graph.roots

    @staticmethod
    def mark(leaf: Leaf, value: Any) -> Any:
        """A node of its own in the graph, for any dtype, never computed."""
        return mx.stop_gradient(value)

    def after(self, sources: set[Leaf]) -> set[Leaf]:
        """The leaves that depend on any of these."""
        known = {leaf for leaf in sources if leaf in self._names}
        if not known:
            return set()
        if not self.is_known:
            first = min(self._leaves.index(leaf) for leaf in known)
            return set(self._leaves[first + 1 :]) - sources
        found = self._graph.after({self._names[leaf] for leaf in known})
        return {self._leaves[int(name[1:])] for name in found}
