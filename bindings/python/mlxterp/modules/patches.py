"""Calls of modules led through a run, for its duration only.

Python looks `__call__` up on the class, so classes are what is changed: while at least one run is under way, those of its
modules have a `__call__` that asks whether this thread is in a run that knows the instance, and else does what it always
did. Other threads and other instances notice nothing. The last run to end takes the wrapper off again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recording import Recorder

_lock = threading.Lock()
#: Class -> how many runs want it wrapped, and its own `__call__` if it has one.
_wrapped: dict[type, tuple[int, Any]] = {}
_MISSING = object()
_NAME = "__call__"


class _Active(threading.local):
    """The run that this thread is in."""

    run: Recorder | None = None


_active = _Active()


def _wrapper(cls: type, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = _active.run
        # A parent's `__call__` reached by super() belongs to the call that is noted already.
        if run is None or type(self) is not cls or not run.knows(self):
            return original(self, *args, **kwargs)
        return run.call(self, original, args, kwargs)

    return call


def _put(cls: type, function: Any) -> None:
    setattr(cls, _NAME, function)


@contextmanager
def wrapped(classes: Iterable[type]) -> Iterator[None]:
    """Wraps the classes for the length of a block."""
    mine = [c for c in dict.fromkeys(classes) if callable(getattr(c, _NAME, None))]
    with _lock:
        for cls in mine:
            count, own = _wrapped.get(cls, (0, _MISSING))
            if count == 0:
                own = cls.__dict__.get(_NAME, _MISSING)
                _put(cls, _wrapper(cls, getattr(cls, _NAME)))
            _wrapped[cls] = (count + 1, own)
    try:
        yield
    finally:
        with _lock:
            for cls in mine:
                count, own = _wrapped.pop(cls)
                if count > 1:
                    _wrapped[cls] = (count - 1, own)
                elif own is _MISSING:
                    delattr(cls, _NAME)
                else:
                    _put(cls, own)


@contextmanager
def running(run: Recorder) -> Iterator[None]:
    """Makes `run` the one that this thread's calls go through. Runs may stand inside each other."""
    before, _active.run = _active.run, run
    try:
        yield
    finally:
        _active.run = before
