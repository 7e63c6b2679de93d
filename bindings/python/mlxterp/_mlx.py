"""mlx.core beside us: its functions take our values, ours take its arrays.

The functions of `mlx.core` want arrays of their own class and look no further. Once both packages are in use, each
function that refuses an argument is called again with our values as MLX arrays: nothing changes for calls that
worked before, and nothing is computed before a value really goes to MLX.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from .array import Array

_MODULES = ("", "fast", "linalg", "fft", "random")
_taught: list[Any] = []


class _Tensor:
    """An array as DLPack and nothing else: what MLX reads without asking us back."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def to_mlx(array: Array) -> Any:
    """The value as an MLX array (MLX's CPU backend copies what it imports)."""
    import mlx.core as mx

    return mx.array(_Tensor(array.contiguous())) if array.size else mx.zeros(array.shape, getattr(mx, array.dtype))


def _theirs(value: Any) -> Any:
    """An argument with our values made MLX arrays; the very same object when it holds none."""
    if isinstance(value, Array):
        return to_mlx(value)
    if type(value) in (list, tuple):
        made = [_theirs(v) for v in value]
        return type(value)(made) if any(a is not b for a, b in zip(made, value)) else value
    if type(value) is dict:
        named = {k: _theirs(v) for k, v in value.items()}
        return named if any(named[k] is not value[k] for k in value) else value
    return value


def _teach(function: Any) -> Any:
    """A function that tries its arguments as they are, then with our values made MLX arrays."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError):
            theirs, named = _theirs(args), _theirs(kwargs)
            if theirs is args and named is kwargs:
                raise
            result = function(*theirs, **named)
        # grad, compile, vmap give functions, which are to take our values too.
        return _teach(result) if type(result).__module__ == "mlx" and callable(result) else result

    return call


def teach() -> None:
    """Makes mlx.core take our values, once, when it is imported."""
    mx = sys.modules.get("mlx.core")
    if mx is None or _taught:
        return
    _taught.append(mx)
    for name in _MODULES:
        module = getattr(mx, name) if name else mx
        for key, function in list(vars(module).items()):
            if type(function).__name__ == "nb_func":
                setattr(module, key, _teach(function))
    for key in ("__matmul__", "__imatmul__"):
        own = getattr(mx.array, key, None)
        if own is not None:
            setattr(mx.array, key, _method(own))


def _method(own: Any) -> Any:
    @functools.wraps(own)
    def call(self: Any, other: Any) -> Any:
        return own(self, _theirs(other))

    return call
