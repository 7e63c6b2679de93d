"""What a run depends on and may change besides its result: what modules hold, and MLX's random numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from .graph import changed_in_place
from .tree import Tree


def _key() -> Any:
    """The random state, as an array of our own."""
    return mx.array(mx.random.state[0].tolist(), dtype=mx.uint32)


class Randomness:
    """The random numbers of a trace: every run of it draws the same ones."""

    def __init__(self) -> None:
        self._first: Any = None
        #: Whether any run drew one.
        self.used = False

    @contextmanager
    def same(self) -> Iterator[None]:
        """Runs the block on the state of the first one. The first one moves the global state, replays leave it alone."""
        before = _key()
        replay = self._first is not None
        if replay:
            mx.random.state[0][...] = self._first
        else:
            self._first = before
        try:
            yield
        finally:
            self.used = self.used or mx.random.state[0].tolist() != self._first.tolist()
            if replay:
                mx.random.state[0][...] = before


def _same(now: Any, saved: Any) -> bool:
    return len(now) == len(saved) and all(k in now and now[k] is v for k, v in saved.items())


def _put(target: Any, saved: Any) -> None:
    """Makes a dict or list hold what it held; left alone where it does."""
    if isinstance(target, list):
        if len(target) != len(saved) or any(a is not b for a, b in zip(target, saved)):
            target[:] = saved
    elif not _same(target, saved):
        # A module is a dict whose own methods do more.
        dict.clear(target)
        dict.update(target, saved)


class _Held:
    """What the modules of a tree hold at one moment."""

    def __init__(self, tree: Tree) -> None:
        self._targets: list[tuple[Any, Any]] = []
        arrays: dict[int, Any] = {}
        for module in tree.modules.values():
            self._targets += [(module, dict(module)), (vars(module), dict(vars(module)))]
            arrays.update((id(v), v) for v in module.values() if type(v) is mx.array)
        self._targets += [(c, copy.copy(c)) for c in tree.containers]
        # An array may be changed in place; a second object on the same value tells, and knows what it was.
        self._arrays = [(a, copy.copy(a)) for a in arrays.values()]

    def put_back(self) -> None:
        """Makes the modules hold it again."""
        for target, saved in self._targets:
            _put(target, saved)
        for array, saved in changed_in_place(self._arrays):
            array[...] = saved


class Frozen:
    """The module as it was when the trace began: every run of the trace is one of that, whatever happened to it since."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._then = _Held(tree)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The block runs on the module as it was; what the run changes in it is taken back."""
        now = _Held(self._tree)
        try:
            self._then.put_back()
            yield
        finally:
            now.put_back()
