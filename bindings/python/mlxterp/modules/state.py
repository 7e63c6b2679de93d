"""What a run may change besides its result: attributes of modules, and MLX's random numbers. Both are put back."""

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


def _unchanged(now: Any, saved: Any) -> bool:
    return len(now) == len(saved) and all(k in now and now[k] is v for k, v in saved.items())


@contextmanager
def preserved(tree: Tree) -> Iterator[None]:
    """Puts the attributes of every module back: a run may be made again, and the module is not ours to change."""
    modules = [(m, dict(m), dict(vars(m))) for m in tree.modules.values()]
    containers = [(c, copy.copy(c)) for c in tree.containers]
    # An array may be changed in place; a second object on the same value tells, and knows what it was.
    arrays = [(v, copy.copy(v)) for _, items, _ in modules for v in items.values() if type(v) is mx.array]
    try:
        yield
    finally:
        for module, items, attributes in modules:
            if not _unchanged(module, items):
                dict.clear(module)
                dict.update(module, items)
            if not _unchanged(vars(module), attributes):
                vars(module).clear()
                vars(module).update(attributes)
        for container, saved in containers:
            if isinstance(container, dict):
                if not _unchanged(container, saved):
                    container.clear()
                    container.update(saved)
            elif len(container) != len(saved) or any(a is not b for a, b in zip(container, saved)):
                container[:] = saved
        for array, saved in changed_in_place(arrays):
            array[...] = saved
