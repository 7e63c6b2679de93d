"""Arithmetic on arrays: each method is one lazy operator of the library."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_void_p
from typing import TYPE_CHECKING, Any

from . import _abi
from ._library import check, lib

if TYPE_CHECKING:
    from .array import Array


def _array(handle: int | None) -> Array:
    from .array import Array

    return Array(handle or 0)


def unary(op: int, a: Array) -> Array:
    """An elementwise function."""
    out = c_void_p()
    check(lib.mlxterp_array_unary(op, a._handle, byref(out)))
    return _array(out.value)


def binary(op: int, a: Array, b: Array) -> Array:
    """An elementwise function of two."""
    out = c_void_p()
    check(lib.mlxterp_array_binary(op, a._handle, b._handle, byref(out)))
    return _array(out.value)


def reduce(op: int, a: Array, axis: int | Sequence[int] | None, keepdims: bool) -> Array:
    """A function along one axis, several or all."""
    shape = a.shape
    if axis is None:
        axis = range(len(shape))
    if isinstance(axis, int):
        out = c_void_p()
        check(lib.mlxterp_array_reduce(op, a._handle, axis, keepdims, byref(out)))
        return _array(out.value)
    # Several axes become one: moved to the end and merged.
    for i in axis:
        if not -len(shape) <= i < len(shape):
            raise ValueError(f"axis {i} does not exist in an array of shape {shape}")
    gone = sorted({i % len(shape) for i in axis})
    kept = [i for i in range(len(shape)) if i not in gone]
    last = a if gone == list(range(len(kept), len(shape))) else a.transpose(*kept, *gone)
    result = reduce(op, last.reshape(*(shape[i] for i in kept), -1), -1, False)
    return result.reshape(tuple(1 if i in gone else n for i, n in enumerate(shape))) if keepdims else result


class Operators:
    """What Python's operators and numpy's method names do."""

    __slots__ = ()

    def _with(self: Any, op: int, other: Any, swapped: bool = False) -> Array:
        from .convert import operand

        try:
            b: Array = operand(other, self)
        except TypeError:
            return NotImplemented  # type: ignore[no-any-return]
        return binary(op, b, self) if swapped else binary(op, self, b)

    def __add__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_ADD, other)

    def __radd__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_ADD, other, True)

    def __sub__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_SUBTRACT, other)

    def __rsub__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_SUBTRACT, other, True)

    def __mul__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_MULTIPLY, other)

    def __rmul__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_MULTIPLY, other, True)

    def __truediv__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_DIVIDE, other)

    def __rtruediv__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_DIVIDE, other, True)

    def __floordiv__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_FLOOR_DIVIDE, other)

    def __rfloordiv__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_FLOOR_DIVIDE, other, True)

    def __mod__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_REMAINDER, other)

    def __rmod__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_REMAINDER, other, True)

    def __pow__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_POWER, other)

    def __rpow__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_POWER, other, True)

    def __matmul__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_MATMUL, other)

    def __rmatmul__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_MATMUL, other, True)

    def __lt__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_LESS, other)

    def __le__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_LESS_EQUAL, other)

    def __gt__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_GREATER, other)

    def __ge__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_GREATER_EQUAL, other)

    def __eq__(self, other: Any) -> Array:  # type: ignore[override]
        return self._with(_abi.MLXTERP_BINARY_EQUAL, other)

    def __ne__(self, other: Any) -> Array:  # type: ignore[override]
        return self._with(_abi.MLXTERP_BINARY_NOT_EQUAL, other)

    #: == compares elements, so an array is no key.
    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_AND, other)

    def __or__(self, other: Any) -> Array:
        return self._with(_abi.MLXTERP_BINARY_OR, other)

    def __neg__(self: Any) -> Array:
        return unary(_abi.MLXTERP_UNARY_NEGATIVE, self)

    def __pos__(self: Any) -> Array:
        return self  # type: ignore[no-any-return]

    def __abs__(self: Any) -> Array:
        return unary(_abi.MLXTERP_UNARY_ABS, self)

    def __invert__(self: Any) -> Array:
        return unary(_abi.MLXTERP_UNARY_NOT, self)

    def abs(self: Any) -> Array:
        """Absolute values."""
        return unary(_abi.MLXTERP_UNARY_ABS, self)

    def exp(self: Any) -> Array:
        """e to the power of each element."""
        return unary(_abi.MLXTERP_UNARY_EXP, self)

    def log(self: Any) -> Array:
        """Natural logarithms."""
        return unary(_abi.MLXTERP_UNARY_LOG, self)

    def sqrt(self: Any) -> Array:
        """Square roots."""
        return unary(_abi.MLXTERP_UNARY_SQRT, self)

    def square(self: Any) -> Array:
        """Squares."""
        return unary(_abi.MLXTERP_UNARY_SQUARE, self)

    def floor(self: Any) -> Array:
        """Rounded down."""
        return unary(_abi.MLXTERP_UNARY_FLOOR, self)

    def sigmoid(self: Any) -> Array:
        """1 / (1 + exp(-x))."""
        return unary(_abi.MLXTERP_UNARY_SIGMOID, self)

    def tanh(self: Any) -> Array:
        """Hyperbolic tangents."""
        return unary(_abi.MLXTERP_UNARY_TANH, self)

    def isnan(self: Any) -> Array:
        """Where elements are not numbers."""
        return unary(_abi.MLXTERP_UNARY_IS_NAN, self)

    def minimum(self, other: Any) -> Array:
        """The lesser of both, elementwise."""
        return self._with(_abi.MLXTERP_BINARY_MINIMUM, other)

    def maximum(self, other: Any) -> Array:
        """The greater of both, elementwise."""
        return self._with(_abi.MLXTERP_BINARY_MAXIMUM, other)

    def sum(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Sums along axes."""
        return reduce(_abi.MLXTERP_REDUCE_SUM, self, axis, keepdims)

    def mean(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Means along axes."""
        return reduce(_abi.MLXTERP_REDUCE_MEAN, self, axis, keepdims)

    def max(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Greatest elements along axes."""
        return reduce(_abi.MLXTERP_REDUCE_MAX, self, axis, keepdims)

    def min(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Least elements along axes."""
        return reduce(_abi.MLXTERP_REDUCE_MIN, self, axis, keepdims)

    def std(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Standard deviations along axes."""
        return reduce(_abi.MLXTERP_REDUCE_STD, self, axis, keepdims)

    def norm(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Euclidean norms along axes."""
        return reduce(_abi.MLXTERP_REDUCE_NORM, self, axis, keepdims)

    def logsumexp(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """log(sum(exp(x))) along axes."""
        return reduce(_abi.MLXTERP_REDUCE_LOGSUMEXP, self, axis, keepdims)

    def argmax(self: Any, axis: int | None = None, keepdims: bool = False) -> Array:
        """Where the greatest element stands along an axis (of the flattened array without one)."""
        return reduce(_abi.MLXTERP_REDUCE_ARGMAX, self, axis, keepdims)

    def all(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Whether every element is true, along axes."""
        truth = (self != 0).astype("int32")
        return reduce(_abi.MLXTERP_REDUCE_MIN, truth, axis, keepdims).astype("bool")

    def any(self: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """Whether some element is true, along axes."""
        truth = (self != 0).astype("int32")
        return reduce(_abi.MLXTERP_REDUCE_MAX, truth, axis, keepdims).astype("bool")

    def softmax(self: Any, axis: int = -1) -> Array:
        """Softmax along an axis, accumulated in float32."""
        out = c_void_p()
        check(lib.mlxterp_array_softmax(self._handle, axis, byref(out)))
        return _array(out.value)

    def topk(self: Any, k: int) -> Array:
        """Indices of the `k` greatest elements of the last axis, the greatest first."""
        out = c_void_p()
        check(lib.mlxterp_array_topk(self._handle, k, byref(out)))
        return _array(out.value)
