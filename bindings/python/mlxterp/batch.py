"""Prompts as tokens: checked and padded by the library."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import byref, c_char_p, c_size_t, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any

from ._library import Handle, c_text, check, lib
from .array import Array
from .dtypes import float32, float64
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from .model import InterpretableModel


class Batch(Handle):
    """Token ids of one prompt or several, each row with its own length."""

    __slots__ = ()
    _free = lib.mlxterp_batch_free

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __len__(self) -> int:
        return int(lib.mlxterp_batch_count(self._handle))

    @property
    def width(self) -> int:
        """Positions of the longest row."""
        return int(lib.mlxterp_batch_width(self._handle))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each row."""
        return tuple(lib.mlxterp_batch_lengths(self._handle)[: len(self)])

    @property
    def ids(self) -> Array:
        """The ids [row, position], padded on the right."""
        out = c_void_p()
        check(lib.mlxterp_batch_ids(self._handle, byref(out)))
        return Array(out.value or 0)

    @property
    def rows(self) -> list[list[int]]:
        """Each row's own ids, without padding."""
        return [row[:n] for row, n in zip(self.ids.tolist(), self.lengths)]


def batch(model: InterpretableModel, prompts: Any) -> Batch:
    """A batch of a text, token ids, or a list of either; arrays of ids too."""
    if isinstance(prompts, Batch):
        return prompts
    if model.inputs != ("ids",):
        return _of_arrays(model, prompts)
    if isinstance(prompts, str):
        prompts = [prompts]
    elif hasattr(prompts, "tolist"):
        prompts = prompts.tolist()
    rows = list(prompts)
    if rows and not isinstance(rows[0], str) and not hasattr(rows[0], "__iter__"):
        rows = [rows]
    out = c_void_p()
    if rows and all(isinstance(row, str) for row in rows):
        texts = [c_text(row, f"prompt {i}") for i, row in enumerate(rows)]
        door = lib.mlxterp_batch_from_texts
        check(door(model._handle, (c_char_p * max(len(texts), 1))(*texts), len(texts), byref(out)))
        return Batch(out.value or 0)
    split = [[_token(t, r, p) for p, t in enumerate(_ids(row, r))] for r, row in enumerate(rows)]
    flat = [t for row in split for t in row]
    ids = (c_uint32 * max(len(flat), 1))(*flat)
    lengths = (c_size_t * len(split))(*(len(row) for row in split))
    check(lib.mlxterp_batch_from_tokens(model._handle, ids, lengths, len(split), byref(out)))
    return Batch(out.value or 0)


def _of_arrays(model: InterpretableModel, given: Any) -> Batch:
    """A batch of the arrays that a model's `Main` takes: one, several in order, or several by name."""
    from .convert import asarray

    names = model.inputs
    if isinstance(given, Mapping):
        unknown, missing = set(given) - set(names), [n for n in names if n not in given]
        if unknown or missing:
            raise InvalidArgumentError(f"the model takes {', '.join(names)}; given were {', '.join(map(str, given))}")
        values = [given[n] for n in names]
    elif isinstance(given, str):
        raise InvalidArgumentError(f"the model takes arrays ({', '.join(names)}), not text")
    elif len(names) == 1:
        values = [given]
    else:
        values = list(given)
    made = [asarray(v) for v in values]
    arrays = [a.astype(float32) if a.dtype == float64 else a for a in made]
    handles = (c_void_p * max(len(arrays), 1))(*(a._handle for a in arrays))
    out = c_void_p()
    check(lib.mlxterp_batch_from_arrays(model._handle, handles, len(arrays), byref(out)))
    return Batch(out.value or 0)


def _ids(row: Any, number: int) -> Any:
    if isinstance(row, str) or not hasattr(row, "__iter__"):
        raise TypeError(f"prompt {number} is a {type(row).__name__}: give all prompts as texts or all as token ids")
    return row.tolist() if hasattr(row, "tolist") else row


def _token(token: Any, row: int, position: int) -> int:
    if isinstance(token, bool) or not hasattr(token, "__index__"):
        raise TypeError(f"token {position} of prompt {row} is a {type(token).__name__}, not an integer")
    number = int(token)
    if not 0 <= number < 2**32:
        raise InvalidArgumentError(f"token id {number} at position {position} of prompt {row} is out of range")
    return number
