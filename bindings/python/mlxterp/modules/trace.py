"""Traces of modules: what a run of the module gave, read and changed by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from .._where import add_note, users_line
from ..calls import Call
from ..errors import InvalidArgumentError, StrictError, UnknownSiteError, UnsupportedError
from ..interventions import Intervention, intervention
from ..sites import Names, Node
from ..trace import enter, leave
from .edits import Edit, intervening, paired, replacing, replacing_part
from .recording import Record
from .runs import Runs
from .values import Keys, handed, leaves, rebuilt

if TYPE_CHECKING:
    from .model import ModuleModel


class _Outputs(Mapping[str, Any]):
    """The outputs of every module that was called, by name, made when asked for."""

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

    __slots__ = ("_model", "_runs", "_keep_all", "_strict", "_rows", "__weakref__")

    _model: ModuleModel
    _runs: Runs
    _keep_all: bool
    _strict: bool
    #: Rows of each call of a batch of several.
    _rows: tuple[int, ...]

    def __init__(self, model: ModuleModel, runs: Runs, keep: str, strict: bool, rows: tuple[int, ...] = ()) -> None:
        if keep not in ("read", "all"):
            raise ValueError(f"keep='{keep}': use 'read' or 'all'")
        # Assigning to an attribute would be a write.
        put = object.__setattr__
        put(self, "_model", model)
        put(self, "_runs", runs)
        put(self, "_keep_all", keep == "all")
        put(self, "_strict", strict)
        put(self, "_rows", rows)

    # Names.

    def _tree(self) -> Node:
        return self._model._tree()

    def _model_of_names(self) -> Any:
        return self._model

    def _trace_now(self, path: str) -> Any:
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        self._write(name, value)

    # Reading and writing.

    def read(self, site: str) -> Any:
        """The value of a site such as "layers.3.output": an array, or the tuple, list or dict that the module gave."""
        with self._runs.alone():
            if "*" in site:
                raise UnknownSiteError(f"'{site}' names many sites: it can be changed or listed, but not read as one value")
            base, number, arrays, value = self._runs.find(site, self._runs.now())
            self._runs.handed.update(dict.fromkeys(leaf for leaf, _ in arrays))
            return handed(value, self, base, number)

    def write(self, site: str, value: Any) -> None:
        """Puts a value (or an intervention's) in a site's place. Everything after it sees the new one."""
        if isinstance(value, Intervention):
            return self.intervene(site, value)
        with self._runs.alone():
            _, _, arrays, old = self._runs.find(site, self._runs.shapes())
            place = users_line()
            made = [replacing(leaf, was, new, place) for leaf, was, new in paired(arrays, old, value, site)]
            self._runs.add(made, at_once=False)

    def write_at(self, site: str, key: Any, value: Any) -> None:
        """Puts a value in part of a site's place."""
        with self._runs.alone():
            _, _, arrays, _ = self._runs.find(site, self._runs.shapes())
            if len(arrays) != 1:
                raise InvalidArgumentError(f"'{site}' holds {len(arrays)} arrays: say which, such as '{site}.0'")
            leaf, old = arrays[0]
            self._runs.add([replacing_part(leaf, old, key, value, users_line())], at_once=False)

    def intervene(self, pattern: str, what: Any) -> None:
        """Applies an intervention to every site that a name or pattern means."""
        with self._runs.alone():
            self._runs.add(self._edits_of(pattern, intervention(what)), at_once=True)

    def start(self, given: list[tuple[str, Intervention]]) -> None:
        """Takes up the interventions that a trace was started with."""
        if given:
            with self._runs.alone():
                edits = [edit for pattern, what in given for edit in self._edits_of(pattern, what)]
                self._runs.add(edits, at_once=True)

    def _edits_of(self, pattern: str, made: Intervention) -> list[Edit]:
        record = self._runs.shapes()
        names = self._all_calls(self._runs.tree.matching(pattern), record)
        place = made.given_at or users_line()
        edits: list[Edit] = []
        for name in names:
            try:
                _, _, arrays, _ = self._runs.find(name, record)
            except UnknownSiteError:
                # Of many modules some may not run; one that is named must.
                if len(names) == 1:
                    raise
                continue
            edits += [intervening(leaf, made, place) for leaf, _ in arrays]
        if not edits:
            raise UnknownSiteError(f"'{pattern}' means no array of this run: no such module was called")
        return edits

    @staticmethod
    def _all_calls(names: list[str], record: Record) -> list[str]:
        """Names in which `#*` stands for every call of a module."""
        found: list[str] = []
        for name in names:
            if not name.endswith("#*"):
                found.append(name)
                continue
            base = name.removesuffix("#*")
            sides = [f"{path}.{side}" if path else side for path, _ in record.calls for side in ("input", "output")]
            times = sum(1 for side in sides if base == side or base.startswith(f"{side}."))
            found += [base, *(f"{base}#{i}" for i in range(1, times))]
        return found

    def __getitem__(self, site: str) -> Any:
        return self.read(site)

    def __setitem__(self, site: str, value: Any) -> None:
        self.write(site, value)

    def sites(self, side: str | None = None) -> list[str]:
        """The names of all arrays of this run, in execution order; only "input"s or "output"s if asked for."""
        with self._runs.alone():
            return [leaf.name for leaf in self._runs.shapes().order if side in (None, leaf.side)]

    @property
    def activations(self) -> Mapping[str, Any]:
        """Every array that a module gave, by name."""
        return _Outputs(self)

    @property
    def result(self) -> Any:
        """What the module gave: the same as the site `output`."""
        return self.read("output")

    @property
    def arguments(self) -> Call:
        """The arguments as the run left them: copies of those given, a cache among them filled."""
        with self._runs.alone():
            made = self._runs.now().arguments
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
            self._runs.forget()
            object.__setattr__(self, "_keep_all", True)

    def _refuse_idle(self) -> None:
        for edit, receipt in zip(self._runs.edits, self.receipts()):
            if receipt["change_norm"] == 0:
                said = "changed nothing"
            elif self._runs.handed and not receipt["reached"]:
                said = "reached nothing: no value that was read depends on it"
            else:
                continue
            error = StrictError(f"the write to '{receipt['site']}' ({edit.words}) {said}")
            if edit.place is not None:
                add_note(error, f"written at {edit.place}")
            raise error

    def receipts(self) -> list[dict[str, Any]]:
        """One a write: site, change, step, rows, positions, change_norm, and whether anything read depended on it."""
        with self._runs.alone():
            if self._runs.edits:
                self._runs.now()
            return [edit.receipt(self._runs.reaches_the_user(edit.leaf)) for edit in self._runs.edits]

    # The rest of its life.

    def _like(self, runs: Runs, rows: tuple[int, ...]) -> ModuleTrace:
        return ModuleTrace(self._model, runs, "all" if self._keep_all else "read", self._strict, rows)

    def fork(self) -> ModuleTrace:
        """A second continuation that shares everything built so far. In it anything may be written."""
        with self._runs.alone():
            return self._like(self._runs.fork(), self._rows)

    def fork_rows(self, n: int) -> ModuleTrace:
        """A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`. Only before any write."""
        if n < 1:
            raise InvalidArgumentError(f"fork_rows({n}): a batch needs at least one row")
        call = self._runs.call
        arrays = [v for _, v in leaves((call.args, call.kwargs)) if isinstance(v, mx.array) and v.ndim]
        if not arrays:
            raise UnsupportedError("fork_rows: no argument is an array with rows")
        if self._runs.edits:
            raise UnsupportedError("fork_rows after a write: fork the rows first, then write to them")
        rows = arrays[0].shape[0]

        def repeated(keys: Keys, leaf: Any) -> Any:
            is_batch = isinstance(leaf, mx.array) and leaf.ndim and leaf.shape[0] == rows
            return mx.concatenate([leaf] * n, axis=0) if is_batch else leaf

        args, kwargs = rebuilt((call.args, call.kwargs), repeated)
        return self._like(Runs(self._runs.tree, Call(args, kwargs)), self._rows * n)

    def of(self, number: int, site: str = "output") -> Any:
        """The rows of a value that belong to one call of a batch of several."""
        if not self._rows:
            raise InvalidArgumentError("the trace is over one call: trace([call(…), call(…)]) is over several")
        at = range(len(self._rows))[number]
        value = self.read(site)
        if not isinstance(value, mx.array):
            raise InvalidArgumentError(f"'{site}' holds several arrays: say which, such as '{site}.0'")
        start = sum(self._rows[:at])
        return value[start : start + self._rows[at]]

    def __repr__(self) -> str:
        return f"<trace of {self._model.name}, {self._runs.call!r}, {len(self._runs.edits)} writes>"
