"""Other people's values as arrays: numbers, lists, numpy, MLX, and anything with DLPack or a buffer."""

from __future__ import annotations

import array as python_array
import ctypes
import itertools
import sys
from collections.abc import Sequence
from ctypes import CFUNCTYPE, byref, c_char, c_int64, c_void_p, py_object
from typing import Any

from . import _dlpack
from ._library import check, lib
from .array import Array
from .dtypes import BY_TYPESTR, FORMATS, Dtype, bool_, dtype_of, float32, float64, int32, int64
from .errors import ShapeError

#: Owners of memory that the library reads, by a number of ours.
_owners: dict[int, Any] = {}
_keys = itertools.count(1)


@CFUNCTYPE(None, c_void_p)  # type: ignore[untyped-decorator]
def _release(key: int, take: Any = _owners.pop) -> None:
    take(key, None)


# MLX may let go of the memory while the interpreter ends: the function must still be there.
ctypes.pythonapi.Py_IncRef(py_object(_release))


def adopt(address: int, shape: tuple[int, ...], dtype: Dtype, owner: Any) -> int:
    """A new handle over memory of `owner`, who lives as long; shared where the backend can, else copied."""
    if 0 in shape:
        return full(shape, 0, dtype).disown()
    key = next(_keys)
    _owners[key] = owner
    out = c_void_p()
    dims = (c_int64 * len(shape))(*shape)
    check(lib.mlxterp_array_adopt(address, dims, len(shape), dtype.number, key, _release, byref(out)))
    return out.value or 0


def from_bytes(data: Any, shape: Sequence[int], dtype: Any) -> Array:
    """A new array with a copy of row-major bytes."""
    kind, dims = dtype_of(dtype), tuple(shape)
    raw = bytes(data)
    want = kind.size
    for n in dims:
        want *= n
    if len(raw) != want:
        raise ShapeError(f"{len(raw)} bytes for shape {dims} of {kind}, which takes {want}")
    out = c_void_p()
    buffer = (c_char * max(len(raw), 1)).from_buffer_copy(raw or b"\0")
    address = ctypes.addressof(buffer)
    check(lib.mlxterp_array_from_data(address, (c_int64 * len(dims))(*dims), len(dims), kind.number, byref(out)))
    return Array(out.value or 0)


def from_numpy(source: Any, copy: bool = False) -> Array:
    """A numpy array as an array. Without `copy` the memory is shared where the backend can: leave it unchanged."""
    interface = source.__array_interface__
    dtype = BY_TYPESTR.get(interface["typestr"])
    if dtype is None:
        raise TypeError(f"no MLX dtype for numpy's {getattr(source, 'dtype', interface['typestr'])}")
    if interface.get("strides") is not None:  # numpy says None for row-major
        import numpy

        source = numpy.ascontiguousarray(source).reshape(interface["shape"])
        interface = source.__array_interface__
    shape, address = tuple(interface["shape"]), interface["data"][0]
    if not copy:
        return Array(adopt(address, shape, dtype, source))
    out = c_void_p()
    dims = (c_int64 * len(shape))(*shape)
    check(lib.mlxterp_array_from_data(address, dims, len(shape), dtype.number, byref(out)))
    return Array(out.value or 0)


def from_dlpack(source: Any) -> Array:
    """Anything with `__dlpack__` as an array, shared where the backend can: leave its memory unchanged."""
    handle, row_major = _dlpack.take(source)
    if not row_major:
        handle, row_major = _dlpack.take(_contiguous(source))
    if not row_major:
        raise ShapeError(f"the {type(source).__name__} is not row-major: make it contiguous first")
    return Array(handle)


def _contiguous(source: Any) -> Any:
    module = type(source).__module__
    if module.startswith("mlx."):
        return sys.modules["mlx.core"].contiguous(source)
    if module == "numpy":
        return sys.modules["numpy"].ascontiguousarray(source)
    return source.contiguous() if hasattr(source, "contiguous") else source


#: An MLX array as an array. MLX arrays never change, so their memory can be shared.
from_mlx = from_dlpack


def _changeable(source: Any) -> bool:
    """Whether somebody could write to a numpy array's memory."""
    while source is not None:
        if getattr(getattr(source, "flags", None), "writeable", False):
            return True
        source = getattr(source, "base", None)
    return False


def asarray(source: Any, dtype: Any = None) -> Array:
    """Anything as an array. Memory that its owner could still change is copied."""
    made = _convert(source, None if dtype is None else dtype_of(dtype))
    return made if dtype is None or made.dtype == dtype_of(dtype) else made.astype(dtype)


def _convert(source: Any, dtype: Dtype | None) -> Array:
    if isinstance(source, Array):
        return source
    if isinstance(source, (bool, int, float)):
        return scalar(source, dtype)
    if hasattr(source, "__array_interface__"):
        return from_numpy(source, copy=_changeable(source))
    if hasattr(source, "__dlpack__"):
        return from_dlpack(source)
    if isinstance(source, (list, tuple)):
        return _from_list(source, dtype)
    try:
        view = memoryview(source)
    except TypeError:
        raise TypeError(f"cannot make an array of a {type(source).__name__}") from None
    kinds = [name for name, code in FORMATS.items() if code == view.format.lstrip("@=<")]
    if view.format.lstrip("@=<") in ("l", "L"):
        kinds = [("int" if view.format[-1] == "l" else "uint") + str(8 * view.itemsize)]
    if not kinds:
        raise TypeError(f"no dtype for a buffer of format '{view.format}'")
    return from_bytes(view.tobytes(), view.shape or (), kinds[0])


def scalar(value: float, dtype: Dtype | None = None) -> Array:
    """One number."""
    if dtype is None:
        small = isinstance(value, int) and -(2**31) <= value < 2**31
        dtype = bool_ if isinstance(value, bool) else float32 if isinstance(value, float) else int32 if small else int64
    if dtype in ("int64", "uint64"):  # a double would round them
        return from_bytes(int(value).to_bytes(8, "little", signed=value < 0), (), dtype)
    out = c_void_p()
    check(lib.mlxterp_array_scalar(float(value), dtype.number, byref(out)))
    return Array(out.value or 0)


def _from_list(source: Any, dtype: Dtype | None) -> Array:
    leaf = source
    while isinstance(leaf, (list, tuple)) and leaf:
        leaf = leaf[0]
    if not isinstance(leaf, (bool, int, float, list, tuple)):
        return stack([asarray(s, dtype) for s in source])
    shape, flat = [], list(source)
    shape.append(len(flat))
    while flat and isinstance(flat[0], (list, tuple)):
        lengths = {len(row) if isinstance(row, (list, tuple)) else -1 for row in flat}
        if len(lengths) != 1:
            raise ShapeError("the rows of a nested list have different lengths")
        shape.append(lengths.pop())
        flat = [value for row in flat for value in row]
    kinds = {type(value) for value in flat}
    if not kinds <= {bool, int, float}:
        raise TypeError(f"a list of {', '.join(sorted(k.__name__ for k in kinds))} is no array")
    if float in kinds or not flat:
        return from_bytes(python_array.array("f", flat).tobytes(), shape, float32)
    if kinds == {bool}:
        return from_bytes(bytes(flat), shape, bool_)
    small = all(-(2**31) <= value < 2**31 for value in flat)
    made = python_array.array("i" if small else "q", flat)
    return from_bytes(made.tobytes(), shape, int32 if small else int64)


def operand(value: Any, like: Array) -> Array:
    """The other side of an operator: numbers take the array's dtype, numpy's default float64 becomes float32."""
    if isinstance(value, Array):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()  # numpy's numbers are numbers, not arrays that spread their dtype
    if isinstance(value, (bool, int, float)):
        out = c_void_p()
        check(lib.mlxterp_array_scalar_like(float(value), like._handle, byref(out)))
        return Array(out.value or 0)
    made = asarray(value)
    return made.astype(float32) if made.dtype == float64 and like.dtype != float64 else made


def full(shape: Sequence[int], value: float, dtype: Any = float32) -> Array:
    """An array filled with one number."""
    out = c_void_p()
    dims = tuple(shape)
    number = dtype_of(dtype).number
    check(lib.mlxterp_array_full((c_int64 * len(dims))(*dims), len(dims), float(value), number, byref(out)))
    return Array(out.value or 0)


def zeros_like(array: Any) -> Array:
    """Zeros of the same shape and dtype."""
    from . import _abi
    from ._operators import unary

    return unary(_abi.MLXTERP_UNARY_ZEROS_LIKE, asarray(array))


def _join(door: Any, arrays: Any, axis: int) -> Array:
    made = [asarray(a) for a in arrays]
    handles = (c_void_p * max(len(made), 1))(*(a._handle for a in made))
    out = c_void_p()
    check(door(handles, len(made), axis, byref(out)))
    return Array(out.value or 0)


def concatenate(arrays: Any, axis: int = 0) -> Array:
    """Arrays joined along an axis."""
    return _join(lib.mlxterp_array_concatenate, arrays, axis)


def stack(arrays: Any, axis: int = 0) -> Array:
    """Arrays of one shape joined along a new axis."""
    return _join(lib.mlxterp_array_stack, arrays, axis)


def where(condition: Any, a: Any, b: Any) -> Array:
    """`a` where the condition holds, else `b`."""
    chosen = asarray(condition)
    first = a if isinstance(a, Array) else operand(a, b) if isinstance(b, Array) else asarray(a)
    second = operand(b, first)
    out = c_void_p()
    check(lib.mlxterp_array_where(chosen._handle, first._handle, second._handle, byref(out)))
    return Array(out.value or 0)


def evaluate(*arrays: Array) -> None:
    """Computes several values together; what they share is computed once."""
    handles = (c_void_p * max(len(arrays), 1))(*(a._handle for a in arrays))
    check(lib.mlxterp_array_eval_all(handles, len(arrays)))
