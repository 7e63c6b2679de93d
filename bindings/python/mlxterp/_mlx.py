"""mlx.core beside us: its functions take our values, ours take its arrays.

The functions of `mlx.core` want arrays of their own class and look no further. Once both packages are in use, each
function that refuses an argument is called again with our values as MLX arrays: nothing changes for calls that
worked before, and nothing is computed before a value really goes to MLX. A function that was taken out of the module
before (`from mlx.core import exp`, then `import mlxterp`) stays as it was: give it `mlx.core.array(value)`.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from .array import Array

#: The kinds of functions: of the module, and what compile, grad and vmap make.
_KINDS = {("nanobind", "nb_func"), ("mlx", "gc_func")}
_taught: set[str] = set()
_seen = 0


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
        return _teach(result) if _is_function(result) else result

    return call


def _is_function(value: Any) -> bool:
    kind = type(value)
    return (kind.__module__, kind.__name__) in _KINDS


def teach() -> None:
    """Makes MLX take our values: every module of it that is imported, once."""
    global _seen
    mx = sys.modules.get("mlx.core")
    if mx is None or _seen == len(sys.modules):
        return
    _seen = len(sys.modules)
    if "mlx.core" not in _taught:
        for key in ("__matmul__", "__imatmul__"):
            setattr(mx.array, key, _method(getattr(mx.array, key)))
    for name in [n for n in sys.modules if n.startswith("mlx.") and n not in _taught]:
        _taught.add(name)
        for key, function in list(vars(sys.modules[name]).items()):
            if _is_function(function):
                setattr(sys.modules[name], key, _teach(function))


def _method(own: Any) -> Any:
    @functools.wraps(own)
    def call(self: Any, other: Any) -> Any:
        return own(self, _theirs(other))

    return call


teach()
