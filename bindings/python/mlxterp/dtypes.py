"""Element types, by the names that numpy and MLX share."""

from __future__ import annotations

from typing import Any


class Dtype(str):
    """An element type. It is its own name, so numpy takes it and it compares with a plain string."""

    __slots__ = ()

    @property
    def number(self) -> int:
        """Its number in the C interface."""
        return NUMBERS[self]

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return _SIZES[self.number]

    def __repr__(self) -> str:
        return str(self)


_NAMES = ("bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 bfloat16 complex64").split()
_SIZES = (1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2, 8)

ALL = tuple(Dtype(name) for name in _NAMES)
NUMBERS = {str(dtype): number for number, dtype in enumerate(ALL)}

(
    bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64,
    float16, float32, float64, bfloat16, complex64,
) = ALL  # fmt: skip

#: How `memoryview` and `array_interface` spell them; bfloat16 has no spelling there.
FORMATS = dict(zip(_NAMES, ["?", "B", "H", "I", "Q", "b", "h", "i", "q", "e", "f", "d", "", "Zf"]))
TYPESTRS = dict(zip(_NAMES, "|b1 |u1 <u2 <u4 <u8 |i1 <i2 <i4 <i8 <f2 <f4 <f8 - <c8".split()))
BY_TYPESTR = {typestr: ALL[NUMBERS[name]] for name, typestr in TYPESTRS.items()}

_PYTHON = {float: float32, int: int32, bool: bool_, complex: complex64}


def dtype_of(what: Any) -> Dtype:
    """The dtype that a name, a Python type, a numpy dtype or an MLX dtype means."""
    if isinstance(what, Dtype):
        return what
    if what in _PYTHON:
        return _PYTHON[what]
    if isinstance(what, str):
        name = what
    else:  # numpy.dtype has a name, numpy.float32 is a class, mlx.core.float32 prints as its path
        name = getattr(what, "name", None) or getattr(what, "__name__", None) or str(what)
    name = name.rpartition(".")[2].rstrip("_")
    if name not in NUMBERS:
        raise TypeError(f"no dtype '{what}': there are {', '.join(_NAMES)}")
    return ALL[NUMBERS[name]]
