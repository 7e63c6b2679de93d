"""DLPack capsules: how arrays go to and come from other libraries without a copy.

The library speaks DLPack 1.x ("dltensor_versioned"); consumers and producers of the older protocol ("dltensor", MLX
among them) are met with a second struct around the same data.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    PYFUNCTYPE,
    Structure,
    byref,
    c_char_p,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import TYPE_CHECKING, Any

from ._library import backend, check, lib

if TYPE_CHECKING:
    from .array import Array

_CPU, _CUDA_MANAGED = 1, 13
_VERSIONED, _LEGACY = b"dltensor_versioned", b"dltensor"
_USED_VERSIONED, _USED_LEGACY = b"used_dltensor_versioned", b"used_dltensor"


class _Device(Structure):
    _fields_ = [("device_type", c_int32), ("device_id", c_int32)]


class _DataType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _Tensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", _Device),
        ("ndim", c_int32),
        ("dtype", _DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


_Deleter = CFUNCTYPE(None, c_void_p)


class _Versioned(Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", _Deleter),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


class _Managed(Structure):
    _fields_ = [("tensor", _Tensor), ("manager_ctx", c_void_p), ("deleter", _Deleter)]


_api = ctypes.pythonapi
_new_capsule = PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", _api))
_is_valid = PYFUNCTYPE(c_int32, py_object, c_char_p)(("PyCapsule_IsValid", _api))
_pointer = PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", _api))
_rename = PYFUNCTYPE(c_int32, py_object, c_char_p)(("PyCapsule_SetName", _api))
# The same for a dying capsule, which as a Python object would be revived.
_is_valid_at = PYFUNCTYPE(c_int32, c_void_p, c_char_p)(("PyCapsule_IsValid", _api))
_pointer_at = PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", _api))


def device() -> tuple[int, int]:
    """Where the data lies, in DLPack's numbers."""
    return (_CUDA_MANAGED if backend() == "cuda" else _CPU, 0)


@CFUNCTYPE(None, c_void_p)  # type: ignore[untyped-decorator]
def _destroy_capsule(capsule: int) -> None:
    """A capsule that nobody took deletes its tensor."""
    for name, kind in ((_VERSIONED, _Versioned), (_LEGACY, _Managed)):
        if _is_valid_at(capsule, name):
            address = _pointer_at(capsule, name)
            kind.from_address(address).deleter(address)


#: Old-style tensors that a consumer holds, by address: their struct and the new-style tensor behind them.
_held: dict[int, tuple[_Managed, int]] = {}


@_Deleter  # type: ignore[untyped-decorator]
def _delete_legacy(address: int, take: Any = _held.pop) -> None:
    _, behind = take(address)
    _Versioned.from_address(behind).deleter(behind)


# Consumers may let go of a tensor while the interpreter ends: these two must still be there.
for _callback in (_destroy_capsule, _delete_legacy):
    ctypes.pythonapi.Py_IncRef(py_object(_callback))


def export(
    array: Array, max_version: tuple[int, int] | None, dl_device: tuple[int, int] | None, copy: bool | None
) -> Any:
    """The capsule of `__dlpack__`."""
    if dl_device is not None and tuple(dl_device) != device():
        raise BufferError(f"the data lies on DLPack device {device()}, not on {tuple(dl_device)}")
    if copy:
        rebuild, parts = array.__reduce__()
        array = rebuild(*parts)
    array.eval()
    out = c_void_p()
    check(lib.mlxterp_array_to_dlpack(array._handle, byref(out)))
    address = out.value or 0
    if max_version is not None and tuple(max_version) >= (1, 0):
        return _new_capsule(address, _VERSIONED, ctypes.cast(_destroy_capsule, c_void_p))
    managed = _Managed()
    managed.tensor = _Versioned.from_address(address).tensor
    managed.deleter = _delete_legacy
    _held[ctypes.addressof(managed)] = (managed, address)
    return _new_capsule(ctypes.addressof(managed), _LEGACY, ctypes.cast(_destroy_capsule, c_void_p))


class _Owner:
    """A tensor of another library, given back when dropped."""

    def __init__(self, address: int, managed: _Managed) -> None:
        self.address, self.managed = address, managed

    def __del__(self) -> None:
        if self.managed.deleter:
            self.managed.deleter(self.address)


def take(source: Any) -> tuple[int, bool]:
    """A new handle over the data of an object with `__dlpack__`; False when its layout is not row-major."""
    try:
        capsule = source.__dlpack__(max_version=(1, 0))
    except TypeError:  # a producer from before DLPack 1
        capsule = source.__dlpack__()
    out = c_void_p()
    if _is_valid(capsule, _VERSIONED):
        address = _pointer(capsule, _VERSIONED)
        if not _row_major(_Versioned.from_address(address).tensor):
            return 0, False
        _rename(capsule, _USED_VERSIONED)
        check(lib.mlxterp_array_from_dlpack(address, byref(out)))
        return out.value or 0, True
    if not _is_valid(capsule, _LEGACY):
        raise TypeError(f"{type(source).__name__}.__dlpack__ gave something that is no DLPack capsule")
    address = _pointer(capsule, _LEGACY)
    managed = _Managed.from_address(address)
    if not _row_major(managed.tensor):
        return 0, False
    _rename(capsule, _USED_LEGACY)
    return _adopt(_Owner(address, managed), managed.tensor), True


def _row_major(tensor: _Tensor) -> bool:
    step = 1
    for i in reversed(range(tensor.ndim)):
        if tensor.strides and tensor.shape[i] != 1 and tensor.strides[i] != step:
            return False
        step *= tensor.shape[i]
    return True


_NAMES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}


def _adopt(owner: _Owner, tensor: _Tensor) -> int:
    from .convert import adopt
    from .dtypes import dtype_of

    if tensor.device.device_type not in (_CPU, _CUDA_MANAGED):
        raise BufferError(f"the data lies on DLPack device {tensor.device.device_type}: move it to the CPU first")
    kind = _NAMES.get(tensor.dtype.code, f"type {tensor.dtype.code} of ")
    name = "bool" if kind == "bool" else f"{kind}{tensor.dtype.bits}"
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    return adopt((tensor.data or 0) + tensor.byte_offset, shape, dtype_of(name), owner)
