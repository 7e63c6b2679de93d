"""Traces: one forward pass, read and changed by name."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from ctypes import byref, c_char_p, c_void_p, sizeof
from typing import TYPE_CHECKING, Any

from . import _abi, _display, _indexing, _mlx
from ._library import Handle, c_text, check, lib, take_text
from ._where import Place, add_note, users_line
from .array import Array
from .batch import Batch
from .cache import Cache
from .convert import asarray
from .dtypes import float32, float64
from .errors import AlignedWarning, ShapeError, StrictError, UnknownSiteError
from .interventions import Intervention, intervention
from .sites import Names, Node

if TYPE_CHECKING:
    from .model import InterpretableModel

#: The traces whose blocks are being run, the innermost last.
_running: ContextVar[tuple[Trace, ...]] = ContextVar("mlxterp_traces", default=())

_read = lib.mlxterp_trace_read


def innermost(model: InterpretableModel) -> Trace | None:
    """The innermost running trace of a model."""
    for trace in reversed(_running.get()):
        if trace._model is model:
            return trace
    return None


def enter(trace: Any) -> None:
    """A trace's block begins: the model's names mean its values."""
    _running.set((*_running.get(), trace))


def leave(trace: Any) -> None:
    """A trace's block ends."""
    running = list(_running.get())
    for i in reversed(range(len(running))):
        if running[i] is trace:
            del running[i]
            break
    _running.set(tuple(running))


def pairs(interventions: Any) -> list[tuple[str, Intervention]]:
    """`{site or pattern: intervention}` (or a list of such pairs) in the given order."""
    if interventions is None:
        return []
    items: Any = interventions.items() if isinstance(interventions, Mapping) else interventions
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise TypeError(f"interventions must be {{site or pattern: intervention}}, not {interventions!r}")
    return [(pattern, intervention(what)) for pattern, what in items]


class Activations(Mapping[str, Array]):
    """The output of every module, by full name, made when asked for. Any other site can be asked for too."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __getitem__(self, name: str) -> Array:
        return self._trace.read(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._trace._model._is_site(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._trace._model._module_names())

    def __len__(self) -> int:
        return len(self._trace._model._module_names())

    def __repr__(self) -> str:
        return f"<the outputs of {len(self)} modules>"


class Trace(Names, Handle):
    """A forward pass over a batch: built lazily, changed anywhere, read at any time, also after its block."""

    __slots__ = ("_model", "batch", "_written")
    _free = lib.mlxterp_trace_free

    _model: InterpretableModel
    batch: Batch
    _written: list[tuple[str, Place | None]]

    def __init__(self, handle: int, model: InterpretableModel, batch: Batch) -> None:
        put = object.__setattr__
        put(self, "_handle", handle)
        put(self, "_model", model)
        put(self, "batch", batch)
        #: Where each write was made: a strict trace's error points there.
        put(self, "_written", [])

    @classmethod
    def start(
        cls,
        model: InterpretableModel,
        batch: Batch,
        interventions: Any,
        keep: str,
        strict: bool,
        cache: Cache | None = None,
    ) -> Trace:
        """Starts a trace. Nothing is computed."""
        _mlx.teach()
        if keep not in ("read", "all"):
            raise ValueError(f"keep='{keep}': use 'read' or 'all'")
        given = pairs(interventions)
        options = _abi.mlxterp_trace_options()
        check(lib.mlxterp_trace_options_init_sized(byref(options), sizeof(options)))
        n = len(given)
        options.patterns = (c_char_p * max(n, 1))(*(c_text(p, "a pattern") for p, _ in given))
        options.interventions = (c_void_p * max(n, 1))(*(i._handle for _, i in given))
        options.intervention_count = n
        options.keep_all, options.strict = int(keep == "all"), int(strict)
        options.cache = None if cache is None else cache._handle
        assert options.struct_size == sizeof(options)
        out = c_void_p()
        check(lib.mlxterp_trace_start(model._handle, batch._handle, byref(options), byref(out)))
        trace = cls(out.value or 0, model, batch)
        here = users_line() if given else None
        trace._written.extend((pattern, what.given_at or here) for pattern, what in given)
        return trace

    # Names.

    def _tree(self) -> Node:
        return self._model._tree()

    def _model_of_names(self) -> InterpretableModel:
        return self._model

    def _trace_now(self, path: str) -> Trace:
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_handle":
            object.__setattr__(self, name, value)
        else:
            self._write(name, value)

    # Reading and writing.

    def read(self, site: str) -> Array:
        """The value of a site such as "layers.3.attn.output", lazily."""
        out = c_void_p()
        status = _read(self._handle, site.encode(), byref(out))
        if status:
            check(status)
        return Array(out.value or 0, self, site)

    def write(self, site: str, value: Any) -> None:
        """Puts a value (or an intervention's) in a site's place. Everything after it sees the new one."""
        if isinstance(value, Intervention):
            return self.intervene(site, value)
        new = _value(value)
        try:
            check(lib.mlxterp_trace_write(self._handle, c_text(site, "site"), new._handle))
        except ShapeError:
            if not self._write_aligned(site, new):
                raise
        else:
            self._written.append((site, users_line()))

    def _write_aligned(self, site: str, value: Array) -> bool:
        """A value read from a prompt of another length meets this one at the ends, with a warning; else False."""
        if value._trace is None or value.ndim != 3:
            return False
        theirs, ours = value._trace.batch, self.batch
        equal = len(set(theirs.lengths)) == 1 == len(set(ours.lengths)) and len(theirs) == len(ours)
        if not equal or theirs.width == ours.width or value.shape[1] != theirs.width:
            return False
        n = min(theirs.width, ours.width)
        last = (slice(None), slice(-n, None))
        try:
            self.write_at(site, last, value[last])
        except ShapeError:
            return False
        place = users_line()
        text = (
            f"'{site}': a value of {theirs.width} tokens was written into a run of {ours.width}; the last {n} "
            f"positions were aligned. Say which positions correspond: {site}[:, -{n}:] = value[:, -{n}:]"
        )
        warnings.warn_explicit(text, AlignedWarning, place.filename if place else "?", place.line if place else 0)
        return True

    def write_at(self, site: str, key: Any, value: Any) -> None:
        """Puts a value in part of a site's place."""
        new = _value(value)
        at, count = _indexing.basic(key)
        check(lib.mlxterp_trace_write_at(self._handle, c_text(site, "site"), at, count, new._handle))
        self._written.append((site, users_line()))

    def intervene(self, pattern: str, what: Any) -> None:
        """Applies an intervention to every site that a name or pattern means."""
        made = intervention(what)
        check(lib.mlxterp_trace_intervene(self._handle, c_text(pattern, "pattern"), made._handle))
        self._written.append((pattern, users_line()))

    def __getitem__(self, site: str) -> Array:
        return self.read(site)

    def __setitem__(self, site: str, value: Any) -> None:
        self.write(site, value)

    @property
    def activations(self) -> Activations:
        """The output of every module, by full name."""
        return Activations(self)

    def save(self, *sites: str) -> Trace:
        """Reads sites now, so that a later read of them needs no replay. Returns the trace."""
        for site in sites:
            self.read(site)
        return self

    # The block.

    def __enter__(self) -> Trace:
        enter(self)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        leave(self)
        if error is None:
            self.finish()

    def finish(self) -> None:
        """Ends the block: a strict trace refuses here a write that changed or reached nothing."""
        try:
            check(lib.mlxterp_trace_finish(self._handle))
        except StrictError as e:
            place = self._place_of(str(e).partition("'")[2].partition("'")[0])
            if place is not None:
                add_note(e, f"written at {place}")
            raise

    def _place_of(self, site: str) -> Place | None:
        with contextlib.suppress(UnknownSiteError):
            wanted = self._model.sites(site)[0].name
            for pattern, place in reversed(self._written):
                if any(s.name == wanted for s in self._model.sites(pattern)):
                    return place
        return None

    # The rest of its life.

    def fork(self) -> Trace:
        """A second continuation that shares everything built so far. In it anything may be written."""
        return self._forked(lib.mlxterp_trace_fork)

    def fork_rows(self, n: int) -> Trace:
        """A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`."""
        return self._forked(lib.mlxterp_trace_fork_rows, n)

    def _forked(self, door: Any, *arguments: Any) -> Trace:
        out, tokens = c_void_p(), c_void_p()
        check(door(self._handle, *arguments, byref(out)))
        fork = Trace(out.value or 0, self._model, self.batch)
        check(lib.mlxterp_trace_batch(fork._handle, byref(tokens)))
        object.__setattr__(fork, "batch", Batch(tokens.value or 0))
        fork._written.extend(self._written)
        return fork

    def cache(self) -> Cache:
        """What the model remembers after this trace's tokens, edits included; the trace must have been given a cache."""
        out = c_void_p()
        check(lib.mlxterp_trace_cache(self._handle, byref(out)))
        return Cache(out.value or 0)

    def receipts(self) -> list[dict[str, Any]]:
        """One a write: site, change, step, rows, positions, change_norm, and whether anything read depended on it."""
        out = c_void_p()
        check(lib.mlxterp_trace_receipts_json(self._handle, byref(out)))
        receipts: list[dict[str, Any]] = json.loads(take_text(out.value))
        return receipts

    def plan(self) -> list[Any]:
        """Shape and dtype of every site for this batch, without computing."""
        return self._model.plan(self.batch)

    @property
    def tokens(self) -> list[list[int]]:
        """Each row's own token ids."""
        return self.batch.rows

    def last(self, site: str = "output") -> Array:
        """The value at each row's own last token: [row, ...]."""
        from .activations import at_positions

        return at_positions(self.read(site), self.batch.lengths, -1)

    def __repr__(self) -> str:
        rows, width = len(self.batch), self.batch.width
        prompts = "1 prompt" if rows == 1 else f"{rows} prompts"
        return f"<trace of {self._model.name} over {prompts} of up to {width} tokens, {len(self._written)} writes>"

    def _repr_html_(self) -> str:
        lines = [[str(r), str(len(ids)), " ".join(map(str, ids[:64]))] for r, ids in enumerate(self.tokens)]
        if self._model.has_tokenizer:
            for line, ids in zip(lines, self.tokens):
                line[2] = "·".join(self._model.token_to_str(t) for t in ids[:64])
        writes = [[site, str(place or "")] for site, place in self._written]
        shown = _display.grid(["row", "tokens", "prompt"], lines)
        return shown + (_display.grid(["written", "where"], writes) if writes else "")


def _value(value: Any) -> Array:
    array = asarray(value)
    return array.astype(float32) if array.dtype == float64 else array
