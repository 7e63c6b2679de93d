"""The user's own line: what an error should point at, however deep it arose."""

from __future__ import annotations

import linecache
import sys
from typing import NamedTuple

_PACKAGE = __name__.partition(".")[0]


class Place(NamedTuple):
    """A line of somebody's source."""

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.filename, self.line).strip()
        place = f"{self.filename}:{self.line}, in {self.function}"
        return f"{place}: {source}" if source else place


def users_line() -> Place | None:
    """The innermost line that is not this package's."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] != _PACKAGE:
            return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def add_note(error: BaseException, note: str) -> None:
    """Adds a line to what the traceback prints (to the message itself before Python 3.11)."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
