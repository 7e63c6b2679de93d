"""Arrays: lazy values of the library, with the manners of numpy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import byref, c_int64, c_uint8, c_void_p
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _display, _dlpack, _indexing
from ._library import Handle, check, lib
from ._operators import Operators
from .dtypes import ALL, FORMATS, TYPESTRS, Dtype, dtype_of

if TYPE_CHECKING:
    from .trace import Trace

_ndim = lib.mlxterp_array_ndim
_shape = lib.mlxterp_array_shape


class Array(Operators, Handle):
    """A lazy, immutable value. Nothing is computed before somebody looks at the data.

    `numpy.asarray(array)` is a read-only view of the buffer that MLX itself uses; `mlx.core` functions, DLPack
    consumers and Python's own operators take it as it is.
    """

    __slots__ = ("_trace", "_site")
    _free = lib.mlxterp_array_free

    #: numpy's operators leave the work to this class.
    __array_priority__ = 1000.0

    def __init__(self, handle: int, trace: Trace | None = None, site: str = "") -> None:
        self._handle = handle
        #: Where the value was read: an assignment to part of it is a write there.
        self._trace = trace
        self._site = site

    # What it is: known without computing.

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        handle = self._handle
        n = _ndim(handle)
        return tuple(_shape(handle)[:n]) if n else ()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(_ndim(self._handle))

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(lib.mlxterp_array_size(self._handle))

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(lib.mlxterp_array_byte_size(self._handle))

    @property
    def dtype(self) -> Dtype:
        """Element type: a string such as "float32"."""
        return ALL[int(lib.mlxterp_array_dtype(self._handle))]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.size

    @property
    def is_evaluated(self) -> bool:
        """Whether it has been computed."""
        return bool(lib.mlxterp_array_is_evaluated(self._handle))

    # Its data: computing.

    def eval(self) -> Array:
        """Computes the value now, and returns the array."""
        check(lib.mlxterp_array_eval(self._handle))
        return self

    def save(self) -> Array:
        """Says that the value is to outlive its trace. What you hold does so anyway."""
        return self

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes between neighbours along each axis. Computes the value."""
        self.eval()
        n, size = self.ndim, self.itemsize
        return tuple(s * size for s in lib.mlxterp_array_strides(self._handle)[:n]) if n else ()

    @property
    def data_address(self) -> int:
        """Address of the first element in MLX's own buffer. Computes the value."""
        self.eval()
        out = c_void_p()
        check(lib.mlxterp_array_data(self._handle, byref(out)))
        return out.value or 0

    def contiguous(self) -> Array:
        """The same value in row-major order without gaps: itself, or a copy. Computes the value."""
        out = c_void_p()
        check(lib.mlxterp_array_contiguous(self._handle, byref(out)))
        return Array(out.value or 0)

    def _flat(self) -> tuple[Array, memoryview]:
        """The elements in order, as a one-dimensional view of an array that must be kept meanwhile."""
        dtype = self.dtype
        if not FORMATS[dtype] or dtype == "float16" or dtype == "complex64":
            raise TypeError(f"no plain view of {dtype}")
        array = self.contiguous()
        raw = (c_uint8 * array.nbytes).from_address(array.data_address)
        return array, memoryview(raw).cast("B").cast(FORMATS[dtype])  # type: ignore[call-overload, unused-ignore]

    def tolist(self) -> Any:
        """Nested Python lists; a number when there are no axes."""
        dtype, shape = self.dtype, self.shape
        if dtype in ("float16", "bfloat16"):
            return self.astype("float32").tolist()
        if dtype == "complex64":
            raise TypeError("complex arrays have no list here: use numpy.asarray(array).tolist()")
        flat: list[Any] = self._flat()[1].tolist() if self.size else []
        for length in reversed(shape[1:]):
            flat = [flat[i : i + length] for i in range(0, len(flat), length)] if length else [[]] * len(flat)
        if self.size == 0 and shape:
            return _display.empty(shape)
        return flat if shape else flat[0]

    def item(self) -> Any:
        """The one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"an array of shape {self.shape} has {self.size} elements, item() wants one")
        return self.reshape(()).tolist()

    # Other libraries.

    @property
    def __array_interface__(self) -> dict[str, Any]:
        typestr = TYPESTRS[self.dtype]
        if typestr == "-":
            raise AttributeError("numpy has no bfloat16: it gets a float32 copy")
        strides = self.strides if self.size else None
        return {
            "shape": self.shape,
            "typestr": typestr,
            "data": (self.data_address if self.size else 1, True),
            "strides": strides,
            "version": 3,
        }

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy

        if self.dtype == "bfloat16":
            if copy is False:
                raise ValueError("numpy has no bfloat16: a float32 copy is needed")
            view = numpy.asarray(self.astype("float32"))
        else:
            view = numpy.asarray(_display.Interface(self))
        if dtype is not None and view.dtype != dtype:
            return view.astype(dtype)
        return view.copy() if copy else view

    def numpy(self) -> Any:
        """A read-only numpy view without a copy (bfloat16: a float32 copy)."""
        return self.__array__()

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return _dlpack.export(self, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _dlpack.device()

    def __mlx_array__(self) -> Any:
        from ._mlx import to_mlx

        return to_mlx(self)

    # Parts.

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("an array without axes has no length")
        return shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Array:
        return Array(_indexing.part(self._handle, key, self.shape))

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._trace is None:
            raise TypeError(
                "arrays are immutable: assign to part of a site (model.layers[4].output[:, -1] = value), "
                "or make a new array with array.at(key, value)"
            )
        self._trace.write_at(self._site, key, value)

    def at(self, key: Any, value: Any) -> Array:
        """A new array like this one with `value` at the subscript."""
        from .convert import operand

        at, count = _indexing.basic(key)
        out = c_void_p()
        new = operand(value, self)
        check(lib.mlxterp_array_index_update(self._handle, at, count, new._handle, byref(out)))
        return Array(out.value or 0)

    def take(self, indices: Any, axis: int = -1) -> Array:
        """Elements along an axis by integer indices."""
        return Array(_indexing.take(self._handle, indices, axis))

    # Python's numbers.

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth of an array of shape {self.shape} is ambiguous: use .any() or .all()")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.startswith(("int", "uint")):
            return int(self.item())
        raise TypeError(f"an array of {self.dtype} is no index")

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __repr__(self) -> str:
        return _display.text(self)

    def _repr_html_(self) -> str:
        return _display.html(self)

    def __copy__(self) -> Array:
        return self

    def __deepcopy__(self, memo: Any) -> Array:
        return self

    def __reduce__(self) -> Any:
        from .convert import from_bytes

        array = self.contiguous()
        raw = bytes((c_uint8 * array.nbytes).from_address(array.data_address)) if array.nbytes else b""
        return from_bytes, (raw, self.shape, str(self.dtype))

    # Shapes and types.

    def astype(self, dtype: Any) -> Array:
        """The same values in another dtype."""
        out = c_void_p()
        check(lib.mlxterp_array_cast(self._handle, dtype_of(dtype).number, byref(out)))
        return Array(out.value or 0)

    def view(self, dtype: Any) -> Array:
        """The same bits as another dtype of the same size. Computes the value."""
        from .convert import adopt

        kind, array = dtype_of(dtype), self.contiguous()
        if kind.size != array.itemsize:
            raise ValueError(f"{array.dtype} has {array.itemsize} bytes, {kind} has {kind.size}: use astype")
        return Array(adopt(array.data_address, array.shape, kind, array))

    def reshape(self, *shape: SupportsIndex | Sequence[SupportsIndex]) -> Array:
        """A new shape for the same elements; one length may be -1."""
        return self._shaped(lib.mlxterp_array_reshape, shape)

    def broadcast_to(self, *shape: SupportsIndex | Sequence[SupportsIndex]) -> Array:
        """Repeats axes of length 1 up to a shape, without copying."""
        return self._shaped(lib.mlxterp_array_broadcast_to, shape)

    def transpose(self, *axes: SupportsIndex | Sequence[SupportsIndex]) -> Array:
        """Axes in another order (reversed when none is named), without copying."""
        return self._shaped(lib.mlxterp_array_transpose, axes or (tuple(reversed(range(self.ndim))),))

    def _shaped(self, door: Any, numbers: tuple[Any, ...]) -> Array:
        if len(numbers) == 1 and not _indexing.is_number(numbers[0]):
            numbers = tuple(numbers[0])
        out = c_void_p()
        check(door(self._handle, (c_int64 * len(numbers))(*numbers), len(numbers), byref(out)))
        return Array(out.value or 0)

    @property
    def T(self) -> Array:
        """Axes reversed."""
        return self.transpose()

    def squeeze(self, axis: int | None = None) -> Array:
        """Without axes of length 1 (or without that one)."""
        shape = self.shape
        if axis is not None and shape[axis] != 1:
            raise ValueError(f"axis {axis} of an array of shape {shape} is not of length 1")
        gone = range(len(shape)) if axis is None else (axis % len(shape),)
        return self.reshape(tuple(n for i, n in enumerate(shape) if n != 1 or i not in gone))
