"""The runs behind one trace: made when asked for, made again when something was written."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from ..calls import Call
from ..errors import BusyError, StaleWrite, UnknownSiteError
from .edits import Edit
from .recording import Dependence, Leaf, Record, Recorder
from .state import Frozen, Randomness
from .tree import Tree
from .values import leaves


class Runs:
    """What is known of one call of a module, and what was written in it. Used under `alone`."""

    def __init__(self, tree: Tree, call: Call) -> None:
        self.tree = tree
        self.call = call
        self.edits: list[Edit] = []
        #: Leaves whose value the user holds.
        self.handed: dict[Leaf, None] = {}
        self._record: Record | None = None
        #: Leaves that were written since the record was made.
        self._stale: set[Leaf] = set()
        self._frozen = Frozen(tree)
        self._random = Randomness()
        self._flow: Dependence | None = None
        self._lock = threading.RLock()
        self._busy = False

    def fork(self) -> Runs:
        """A second continuation that shares the record and has handed out nothing."""
        fork = copy.copy(self)
        fork.edits = [edit.copied() for edit in self.edits]
        fork.handed = {}
        fork._stale = set(self._stale)
        fork._lock = threading.RLock()
        return fork

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One thread at a time; not from inside a run of this trace."""
        with self._lock:
            if self._busy:
                raise BusyError("the trace is in the middle of a run: a function in it must not use the trace that called it")
            yield

    def _run(self, change: Callable[[Leaf, Any], Any], before: Record | None, stale: set[Leaf]) -> Record:
        # Arguments are copied: a run may fill a cache among them, and the next run must find it as it was.
        args, kwargs = copy.deepcopy((self.call.args, self.call.kwargs))
        self._busy = True
        try:
            with self._frozen.installed(), self._random.same():
                return Recorder(self.tree, change, before, stale).run(Call(args, kwargs))
        finally:
            self._busy = False

    def _flows(self) -> Dependence:
        if self._flow is None:
            self._flow = Dependence(self._run(Dependence.mark, None, set()))
        return self._flow

    def _is_repeatable(self) -> bool:
        """Whether a call may be left out of a run: nothing it does besides its result matters to others."""
        plain = (mx.array, str, int, float, bool, type(None), mx.Dtype)
        values = (leaf for _, leaf in leaves((self.call.args, self.call.kwargs)))
        return not self._random.used and all(isinstance(v, plain) or callable(v) for v in values)

    def _changed(self, leaf: Leaf, value: Any) -> Any:
        for edit in self.edits:
            if edit.leaf == leaf:
                value = edit.applied(value)
        return value

    def now(self) -> Record:
        """A record in which every write so far is seen."""
        if self._record is None or self._stale:
            before, stale = self._record, set(self._stale)
            if before is not None:
                touched: set[Leaf] = set()
                for leaf in self._stale:
                    touched |= self._flows().after({leaf})
                for edit in self.edits:
                    # What it did to another value than the one that now comes is forgotten.
                    if edit.leaf in touched:
                        edit.forget()
                stale |= touched
                before = before if self._is_repeatable() else None
            record = self._run(self._changed, before, stale)
            for edit in self.edits:
                if edit.leaf not in record.values:
                    raise UnknownSiteError(f"'{edit.leaf.name}' was changed, but this run does not come there any more")
            self._record = record
            self._stale.clear()
        return self._record

    def shapes(self) -> Record:
        """A record that says what there is; its values may be out of date."""
        return self._record if self._record is not None else self.now()

    def forget(self) -> None:
        """Lets go of every value that nobody holds. The next read makes the run again."""
        self._record = None

    def add(self, edits: list[Edit], at_once: bool) -> None:
        """Takes edits up, all or none; `at_once` sees now whether they fit."""
        for edit in edits:
            self._refuse_late(edit.leaf)
        count, stale = len(self.edits), set(self._stale)
        done = [(edit, edit.before, edit.after) for edit in self.edits]
        self.edits.extend(edits)
        self._stale.update(edit.leaf for edit in edits)
        if not at_once:
            return
        try:
            self.now()
        except BaseException:
            del self.edits[count:]
            # What earlier edits did is as it was, and the record from before still stands.
            self._stale = stale
            for edit, before, after in done:
                edit.before, edit.after = before, after
            raise

    def _refuse_late(self, leaf: Leaf) -> None:
        places = self.shapes().places
        later = [h for h in self.handed if h != leaf and places.get(h, -1) > places[leaf]]
        if not later:
            return
        touched = self._flows().after({leaf})
        seen = next((h for h in later if h in touched), None)
        if seen is not None:
            raise StaleWrite(
                f"'{leaf.name}' cannot be changed any more: '{seen.name}' depends on it and was already read; "
                "write first, or fork"
            )

    def reaches_the_user(self, leaf: Leaf) -> bool:
        """Whether anything the user holds is this leaf or depends on it."""
        if leaf in self.handed or not self.handed:
            return leaf in self.handed
        return not self._flows().after({leaf}).isdisjoint(self.handed)

    def find(self, site: str, record: Record) -> tuple[str, str, list[tuple[Leaf, Any]], Any]:
        """A name as base and number of the call, its leaves that are arrays, and its value or structure."""
        path, rest = self.tree.split(site)
        rest, _, number = rest.partition("#")
        if number and not number.isdigit():
            raise UnknownSiteError(f"no site '{site}': the number of a call stands at the end, as in 'output#1'")
        call = int(number or 0)
        side, *keys = rest.split(".")
        way, value = record.structure(path, call, side, tuple(keys))
        found = [(Leaf(path, call, side, (*way, *k)), v) for k, v in leaves(value)]
        arrays = [(leaf, v) for leaf, v in found if isinstance(v, mx.array)]
        return (f"{path}.{rest}" if path else rest), f"#{number}" if number else "", arrays, value
