"""numpy's subscripts, told to the library."""

from __future__ import annotations

import operator
from ctypes import Array as CArray
from ctypes import byref, c_void_p
from typing import Any

from . import _abi
from ._library import check, lib
from ._where import add_note
from .errors import InvalidArgumentError, ShapeError, SubscriptError

_Index = _abi.mlxterp_index
_NONE = _abi.MLXTERP_INDEX_NONE


def is_number(what: Any) -> bool:
    """Whether something is one integer, not a list of them (numpy's arrays claim to be both)."""
    return hasattr(what, "__index__") and not hasattr(what, "__len__")


def _one(subscript: Any) -> Any:
    """One basic subscript as the library's; None when it is a list or an array of indices."""
    if isinstance(subscript, slice):
        bound = [_NONE if b is None else operator.index(b) for b in (subscript.start, subscript.stop)]
        step = 1 if subscript.step is None else operator.index(subscript.step)
        return (_abi.MLXTERP_INDEX_SLICE, 0, bound[0], bound[1], step)
    if subscript is Ellipsis:
        return (_abi.MLXTERP_INDEX_ELLIPSIS, 0, 0, 0, 1)
    if subscript is None:
        return (_abi.MLXTERP_INDEX_NEW_AXIS, 0, 0, 0, 1)
    if isinstance(subscript, bool):
        raise TypeError("a truth value is no subscript")
    if getattr(subscript, "ndim", 0) or isinstance(subscript, (list, tuple)):
        return None
    try:
        return (_abi.MLXTERP_INDEX_AT, 0, operator.index(subscript), 0, 1)
    except TypeError:
        raise TypeError(
            f"a subscript must be an integer, a slice, ..., None or a list of integers, not {type(subscript).__name__}"
        ) from None


def basic(key: Any) -> tuple[CArray[_Index], int]:
    """A key made of basic subscripts only, as a C array and its length."""
    subscripts = key if isinstance(key, tuple) else (key,)
    told = [_one(s) for s in subscripts]
    if None in told:
        raise TypeError("only integers, slices, ... and None can be assigned to: lists of indices cannot")
    return _c_array(told), len(told)


def _c_array(told: list[Any]) -> CArray[_Index]:
    return (_Index * max(len(told), 1))(*(_Index(*t) for t in told))


def part(handle: int, key: Any, shape: tuple[int, ...]) -> int:
    """A new handle on part of an array; one subscript may be a list of integers."""
    subscripts = key if isinstance(key, tuple) else (key,)
    told = [_one(s) for s in subscripts]
    lists = [i for i, t in enumerate(told) if t is None]
    if len(lists) > 1:
        raise TypeError("only one subscript may be a list of indices: take one after the other, or use numpy")
    if not lists:
        return _index(handle, told)
    # The basic subscripts first, with the listed axis whole; then the list along the axis where it ended up.
    where, whole = lists[0], list(told)
    whole[where] = (_abi.MLXTERP_INDEX_SLICE, 0, _NONE, _NONE, 1)
    axis = 0
    for t in whole[:where]:
        if t[0] == _abi.MLXTERP_INDEX_ELLIPSIS:
            named = sum(1 for u in whole if u[0] in (_abi.MLXTERP_INDEX_SLICE, _abi.MLXTERP_INDEX_AT))
            axis += len(shape) - named
        elif t[0] != _abi.MLXTERP_INDEX_AT:
            axis += 1
    from .array import Array

    rest = Array(_index(handle, whole))
    return take(rest._handle, subscripts[where], axis)


def _index(handle: int, told: list[Any]) -> int:
    out = c_void_p()
    _checked(lib.mlxterp_array_index(handle, _c_array(told), len(told), byref(out)))
    return out.value or 0


def _checked(status: int) -> None:
    try:
        check(status)
    except (InvalidArgumentError, ShapeError) as e:
        error = SubscriptError(*e.args)
        for note in getattr(e, "__notes__", ()):
            add_note(error, note)
        raise error from None


def take(handle: int, indices: Any, axis: int) -> int:
    """A new handle on elements by integer indices along an axis."""
    from .convert import asarray

    which = asarray(indices)
    if which.dtype == "bool":
        raise TypeError("masks are no subscripts here: use where(mask, a, b), or numpy")
    out = c_void_p()
    _checked(lib.mlxterp_array_take(handle, which._handle, axis, byref(out)))
    return out.value or 0
