"""Traces of modules: what a run of the module gave, read and changed by name."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from .._where import Place, add_note, users_line
from ..calls import Call
from ..errors import BusyError, InvalidArgumentError, StaleWrite, StrictError, UnknownSiteError, UnsupportedError
from ..interventions import Intervention, intervention
from ..sites import Names, Node
from ..trace import enter, leave
from . import changes
from .recording import Dependence, Leaf, Record, Recorder
from .state import Randomness, preserved
from .values import Keys, fit, handed, leaves, own, parts, rebuilt, to_mx

if TYPE_CHECKING:
    from .model import ModuleModel


class Edit:
    """One write at one leaf. What it did is kept, so that making a run again does not ask a function twice."""

    def __init__(self, leaf: Leaf, words: str, change: Callable[[Any], Any], place: Place | None, by_row: bool) -> None:
        self.leaf = leaf
        self.words = words
        self.change = change
        self.place = place
        #: Whether it speaks of single rows of the batch.
        self.by_row = by_row
        self.before: Any = None
        self.after: Any = None

    def copied(self) -> Edit:
        """The same for a fork, which may see another value there."""
        return copy.copy(self)


class _Sites(Mapping[str, Any]):
    """The output of every module that was called, by name, made when asked for."""

    def __init__(self, trace: ModuleTrace) -> None:
        self._trace = trace

    def __getitem__(self, name: str) -> Any:
        return self._trace.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._trace.sites("output"))

    def __len__(self) -> int:
        return len(self._trace.sites("output"))


class ModuleTrace(Names):
    """A call of a module: built lazily, changed anywhere, read at any time, also after its block.

    Values are `mlx.core` arrays. Nothing is computed before somebody looks at the data, unless the module does.
    """

    __slots__ = (
        "_model", "_call", "_edits", "_record", "_stale", "_handed", "_keep_all", "_strict", "_random", "_flow", "_lock",
        "_busy", "_rows", "__weakref__",
    )  # fmt: skip

    def __init__(self, model: ModuleModel, call: Call, keep: str, strict: bool, rows: tuple[int, ...] = ()) -> None:
        if keep not in ("read", "all"):
            raise ValueError(f"keep='{keep}': use 'read' or 'all'")
        put = object.__setattr__
        put(self, "_model", model)
        put(self, "_call", call)
        put(self, "_edits", [])
        put(self, "_record", None)
        #: Leaves that were written since the record was made.
        put(self, "_stale", set())
        put(self, "_handed", {})
        put(self, "_keep_all", keep == "all")
        put(self, "_strict", strict)
        put(self, "_random", Randomness())
        put(self, "_flow", None)
        put(self, "_lock", threading.RLock())
        put(self, "_busy", False)
        #: Rows of each call of a batch of several.
        put(self, "_rows", rows)

    _model: ModuleModel
    _call: Call
    _edits: list[Edit]
    _record: Record | None
    _stale: set[Leaf]
    _handed: dict[Leaf, None]
    _keep_all: bool
    _strict: bool
    _random: Randomness
    _flow: Dependence | None
    _lock: threading.RLock
    _busy: bool
    _rows: tuple[int, ...]

    # Names.

    def _tree(self) -> Node:
        return self._model._tree()

    def _model_of_names(self) -> Any:
        return self._model

    def _trace_now(self, path: str) -> Any:
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        self._write(name, value)

    # Running the module.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self._busy:
                raise BusyError("the trace is in the middle of a run: a function in it must not use the trace that called it")
            yield

    def _arguments(self) -> Call:
        """The caller's arguments copied: a run may change a cache in them, and the next run must find it as it was."""
        args, kwargs = copy.deepcopy((self._call.args, self._call.kwargs))
        return Call(args, kwargs)

    def _run(self, change: Callable[[Leaf, Any], Any], before: Record | None, stale: set[Leaf]) -> Record:
        tree = self._model._modules_tree
        object.__setattr__(self, "_busy", True)
        try:
            with preserved(tree), self._random.same():
                return Recorder(tree, change, before, stale).run(self._arguments())
        finally:
            object.__setattr__(self, "_busy", False)

    def _flows(self) -> Dependence:
        if self._flow is None:
            object.__setattr__(self, "_flow", Dependence(self._run(Dependence.mark, None, set())))
        assert self._flow is not None
        return self._flow

    def _is_repeatable(self) -> bool:
        """Whether a call may be left out of a run: nothing it does besides its result matters to others."""
        plain = (mx.array, str, int, float, bool, type(None), mx.Dtype)
        values = (leaf for _, leaf in leaves((self._call.args, self._call.kwargs)))
        return not self._random.used and all(isinstance(v, plain) or callable(v) for v in values)

    def _changed(self, leaf: Leaf, value: Any) -> Any:
        for edit in self._edits:
            if edit.leaf == leaf:
                if edit.after is None:
                    after = edit.change(own(value))
                    edit.before, edit.after = own(value), own(after)
                value = own(edit.after)
        return value

    def _now(self) -> Record:
        """A record in which every write so far is seen."""
        if self._record is None or self._stale:
            before, stale = self._record, set(self._stale)
            reuse = before is not None and self._is_repeatable()
            if before is not None:
                touched = set().union(*(self._flows().after({leaf}) for leaf in self._stale))
                stale |= touched
                for edit in self._edits:
                    # What it did to another value than the one that now comes is forgotten.
                    if edit.leaf in touched:
                        edit.before = edit.after = None
            record = self._run(self._changed, before if reuse else None, stale)
            if self._edits:
                self._check_reached(record)
            object.__setattr__(self, "_record", record)
            self._stale.clear()
        assert self._record is not None
        return self._record

    def _check_reached(self, record: Record) -> None:
        for edit in self._edits:
            if edit.leaf not in record.values:
                raise UnknownSiteError(f"'{edit.leaf.name}' was changed, but this run does not come there any more")

    # Reading and writing.

    def _find(self, site: str, record: Record) -> tuple[str, str, list[tuple[Leaf, Any]], Any]:
        """A name as base and number, its leaves, and the value or structure."""
        path, rest = self._model._modules_tree.split(site)
        rest, _, number = rest.partition("#")
        if number and not number.isdigit():
            raise UnknownSiteError(f"no site '{site}': the number of a call stands at the end, as in 'output#1'")
        side, *keys = rest.split(".")
        way, value = record.structure(path, int(number or 0), side, tuple(keys))
        found = [(Leaf(path, int(number or 0), side, (*way, *k)), v) for k, v in leaves(value)]
        arrays = [(leaf, v) for leaf, v in found if isinstance(v, mx.array)]
        return (f"{path}.{rest}" if path else rest), f"#{number}" if number else "", arrays, value

    def read(self, site: str) -> Any:
        """The value of a site such as "layers.3.output": an array, or the tuple, list or dict that the module gave."""
        with self._alone():
            if "*" in site:
                raise UnknownSiteError(f"'{site}' names many sites: it can be changed or listed, but not read as one value")
            base, number, arrays, value = self._find(site, self._now())
            self._handed.update(dict.fromkeys(leaf for leaf, _ in arrays))
            return handed(value, self, base, number)

    def _shapes(self) -> Record:
        """A record that says what there is; its values may be out of date."""
        return self._record if self._record is not None else self._now()

    def _add(self, edits: list[Edit], at_once: bool) -> None:
        """Takes edits up, all or none."""
        for edit in edits:
            self._refuse_late(edit.leaf)
        before = len(self._edits), set(self._stale), self._record
        self._edits.extend(edits)
        self._stale.update(edit.leaf for edit in edits)
        if not at_once:
            return
        try:
            self._now()
        except BaseException:
            del self._edits[before[0] :]
            # What earlier edits did is as it was: the record from before still stands.
            self._stale.clear()
            self._stale.update(before[1])
            object.__setattr__(self, "_record", before[2])
            self._stale.update(e.leaf for e in self._edits if e.after is None)
            raise

    def _refuse_late(self, leaf: Leaf) -> None:
        record = self._shapes()
        place = record.places[leaf]
        later = [h for h in self._handed if h != leaf and record.places.get(h, -1) > place]
        if not later:
            return
        touched = self._flows().after({leaf})
        seen = next((h for h in later if h in touched), None)
        if seen is not None:
            raise StaleWrite(
                f"'{leaf.name}' cannot be changed any more: '{seen.name}' depends on it and was already read; "
                "write first, or fork"
            )

    def write(self, site: str, value: Any) -> None:
        """Puts a value (or an intervention's) in a site's place. Everything after it sees the new one."""
        if isinstance(value, Intervention):
            return self.intervene(site, value)
        with self._alone():
            _, _, arrays, old = self._find(site, self._shapes())
            place = users_line()
            if not arrays:
                raise InvalidArgumentError(f"'{site}' is no array ({type(old).__name__}): it can be read, not changed")
            made = []
            for leaf, (was, new) in _paired(arrays, old, value, site):
                fitted = fit(new, was, leaf.name)
                made.append(Edit(leaf, "value", _constant(fitted), place, False))
            self._add(made, at_once=False)

    def write_at(self, site: str, key: Any, value: Any) -> None:
        """Puts a value in part of a site's place."""
        with self._alone():
            _, _, arrays, _ = self._find(site, self._shapes())
            if len(arrays) != 1:
                raise InvalidArgumentError(f"'{site}' holds {len(arrays)} arrays: say which, such as '{site}.0'")
            leaf, old = arrays[0]
            _check_key(key, old, leaf.name)
            new = to_mx(value).astype(old.dtype)

            def change(was: Any) -> Any:
                was[key] = new
                return was

            # Tried on a value of that shape: what does not fit is an error here and not at some later read.
            change(own(old))
            self._add([Edit(leaf, "value", change, users_line(), False)], at_once=False)

    def intervene(self, pattern: str, what: Any) -> None:
        """Applies an intervention to every site that a name or pattern means."""
        with self._alone():
            self._add(self._edits_of(pattern, intervention(what)), at_once=True)

    def _edits_of(self, pattern: str, made: Intervention) -> list[Edit]:
        record = self._shapes()
        names = self._model._modules_tree.matching(pattern)
        place = made.given_at or users_line()
        edits: list[Edit] = []
        for name in names:
            try:
                _, _, arrays, _ = self._find(name, record)
            except UnknownSiteError:
                # Of many modules some may not run; one that is named must.
                if len(names) == 1:
                    raise
                continue
            for leaf, _ in arrays:
                edits.append(Edit(leaf, repr(made), _intervened(made, leaf.name), place, _names_rows(made)))
        if not edits:
            raise UnknownSiteError(f"the pattern '{pattern}' matches no value of this run: no such module was called")
        return edits

    def start(self, given: list[tuple[str, Intervention]]) -> None:
        """Takes up the interventions that a trace was started with."""
        if given:
            with self._alone():
                edits = [edit for pattern, what in given for edit in self._edits_of(pattern, what)]
                self._add(edits, at_once=True)

    def __getitem__(self, site: str) -> Any:
        return self.read(site)

    def __setitem__(self, site: str, value: Any) -> None:
        self.write(site, value)

    def sites(self, side: str | None = None) -> list[str]:
        """The names of all arrays of this run, in execution order; only "input"s or "output"s if asked for."""
        with self._alone():
            values = self._shapes().values
            return [leaf.name for leaf in values if side in (None, leaf.side)]

    @property
    def activations(self) -> Mapping[str, Any]:
        """Every array that a module gave, by name."""
        return _Sites(self)

    @property
    def result(self) -> Any:
        """What the module gave: the same as the site `output`."""
        return self.read("output")

    @property
    def arguments(self) -> Call:
        """The arguments as the run left them: copies of those given, a cache among them filled."""
        with self._alone():
            made = self._now().arguments
            assert made is not None
            return made

    def save(self, *sites: str) -> ModuleTrace:
        """Reads sites now, so that a later read of them needs no replay. Returns the trace."""
        for site in sites:
            self.read(site)
        return self

    # The block.

    def __enter__(self) -> ModuleTrace:
        enter(self)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        leave(self)
        if error is None:
            self.finish()

    def finish(self) -> None:
        """Ends the block: a strict trace refuses here a write that changed or reached nothing.

        From here on only what the user holds is kept; a read of anything else runs the module again, once.
        """
        if self._strict:
            self._refuse_idle()
        if not self._keep_all:
            object.__setattr__(self, "_record", None)
            object.__setattr__(self, "_keep_all", True)

    def _refuse_idle(self) -> None:
        for edit, receipt in zip(self._edits, self.receipts()):
            if receipt["change_norm"] == 0:
                said = "changed nothing"
            elif self._handed and not receipt["reached"]:
                said = "reached nothing: no value that was read depends on it"
            else:
                continue
            error = StrictError(f"the write to '{receipt['site']}' ({edit.words}) {said}")
            if edit.place is not None:
                add_note(error, f"written at {edit.place}")
            raise error

    def receipts(self) -> list[dict[str, Any]]:
        """One a write: site, change, step, rows, positions, change_norm, and whether anything read depended on it."""
        with self._alone():
            if not self._edits:
                return []
            self._now()
            return [self._receipt(edit) for edit in self._edits]

    def _receipt(self, edit: Edit) -> dict[str, Any]:
        rows, positions, norm = changes.norms(edit.before, edit.after)
        reached = edit.leaf in self._handed
        if not reached and self._handed:
            reached = not self._flows().after({edit.leaf}).isdisjoint(self._handed)
        return {
            "site": edit.leaf.name, "change": edit.words, "step": 0, "rows": rows, "positions": positions,
            "change_norm": norm, "reached": reached,
        }  # fmt: skip

    # The rest of its life.

    def fork(self) -> ModuleTrace:
        """A second continuation that shares everything built so far. In it anything may be written."""
        with self._alone():
            fork = ModuleTrace(self._model, self._call, "all" if self._keep_all else "read", self._strict, self._rows)
            put = object.__setattr__
            put(fork, "_edits", [e.copied() for e in self._edits])
            put(fork, "_record", self._record)
            put(fork, "_stale", set(self._stale))
            put(fork, "_random", self._random)
            put(fork, "_flow", self._flow)
            return fork

    def fork_rows(self, n: int) -> ModuleTrace:
        """A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`."""
        if n < 1:
            raise InvalidArgumentError(f"fork_rows({n}): a batch needs at least one row")
        with self._alone():
            arrays = [v for _, v in leaves((self._call.args, self._call.kwargs)) if isinstance(v, mx.array) and v.ndim]
            if not arrays:
                raise UnsupportedError("fork_rows: no argument is an array with rows")
            if self._edits:
                raise UnsupportedError("fork_rows after a write: fork the rows first, then write to them")
            rows = arrays[0].shape[0]

            def repeated(keys: Keys, leaf: Any) -> Any:
                is_batch = isinstance(leaf, mx.array) and leaf.ndim and leaf.shape[0] == rows
                return mx.concatenate([leaf] * n, axis=0) if is_batch else leaf

            args, kwargs = rebuilt((self._call.args, self._call.kwargs), repeated)
            keep = "all" if self._keep_all else "read"
            return ModuleTrace(self._model, Call(args, kwargs), keep, self._strict, self._rows * n)

    def of(self, number: int, site: str = "output") -> Any:
        """The rows of a value that belong to one call of a batch of several."""
        if not self._rows:
            raise InvalidArgumentError("the trace is over one call: trace([call(…), call(…)]) is over several")
        start = sum(self._rows[: range(len(self._rows))[number]])
        value = self.read(site)
        if not isinstance(value, mx.array):
            raise InvalidArgumentError(f"'{site}' holds several arrays: say which, such as '{site}.0'")
        return value[start : start + self._rows[number]]

    def __repr__(self) -> str:
        return f"<trace of {self._model.name}, {self._call!r}, {len(self._edits)} writes>"


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda old: value


def _intervened(made: Intervention, site: str) -> Callable[[Any], Any]:
    return lambda old: changes.apply(made, old, site)


def _names_rows(made: Intervention) -> bool:
    recipe = made.recipe
    return recipe is not None and recipe[0] == "select" and "rows" in recipe[2]


def _check_key(key: Any, value: Any, site: str) -> None:
    """MLX does not look whether an index is inside."""
    given = key if isinstance(key, tuple) else (key,)
    n = sum(1 for k in given if k is not None and k is not Ellipsis)
    axis = 0
    for k in given:
        if k is None:
            continue
        if k is Ellipsis:
            axis = value.ndim - (n - axis)
            continue
        if isinstance(k, int) and not isinstance(k, bool):
            size = value.shape[axis] if axis < value.ndim else 0
            if not -size <= k < size:
                raise IndexError(f"'{site}': index {k} is outside axis {axis} of shape {tuple(value.shape)}")
        axis += 1


def _paired(arrays: list[tuple[Leaf, Any]], old: Any, value: Any, site: str) -> Iterator[tuple[Leaf, tuple[Any, Any]]]:
    """Old and new leaves of a write; None stands for "as it is"."""
    if parts(old) is None:
        yield arrays[0][0], (arrays[0][1], value)
        return
    new = dict(leaves(value))
    wanted = dict(leaves(old))
    if set(new) != set(wanted):
        raise InvalidArgumentError(f"'{site}' holds {len(wanted)} values; what was written has {len(new)} of another structure")
    depth = len(arrays[0][0].keys) - len(next(k for k, v in wanted.items() if isinstance(v, mx.array)))
    for leaf, was in arrays:
        if new[leaf.keys[depth:]] is not None:
            yield leaf, (was, new[leaf.keys[depth:]])
