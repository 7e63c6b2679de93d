"""What a model remembers between one trace and the next."""

from __future__ import annotations

from ctypes import byref, c_size_t, c_void_p

from ._library import Handle, check, lib


class Cache(Handle):
    """Keys and values, convolution tails and recurrent states after some tokens. `Cache()` has seen none.

    A value: a trace that was started with a cache gives a new one, and the one before stays as it was.
    """

    __slots__ = ()
    _free = lib.mlxterp_cache_free

    def __init__(self, handle: int | None = None) -> None:
        if handle is None:
            out = c_void_p()
            check(lib.mlxterp_cache_empty(byref(out)))
            handle = out.value or 0
        self._handle = handle

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that each row has seen; () when it has seen none."""
        rows = c_size_t()
        check(lib.mlxterp_cache_lengths(self._handle, None, 0, byref(rows)))
        lengths = (c_size_t * max(rows.value, 1))()
        check(lib.mlxterp_cache_lengths(self._handle, lengths, rows.value, byref(rows)))
        return tuple(lengths[: rows.value])

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays hold, or will hold once they are computed."""
        return int(lib.mlxterp_cache_byte_size(self._handle))

    def eval(self) -> Cache:
        """Computes what it remembers, so that the graph behind it can be freed."""
        check(lib.mlxterp_cache_eval(self._handle))
        return self

    def __repr__(self) -> str:
        return f"Cache(lengths={self.lengths}, nbytes={self.nbytes})"
