"""How far a load has come, told to a function or to a bar in tqdm's manner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _abi
from ._library import pending


class Progress:
    """Passes the library's reports on. The function gets (stage, done, total) and may return False to cancel."""

    def __init__(self, told: Any) -> None:
        self._tell: Callable[[str, int, int], Any] = _Bars(told) if _is_bar(told) else told
        if not callable(self._tell):
            raise TypeError(f"progress must be a function or tqdm, not {type(told).__name__}")
        #: What the library calls; must live as long as the load.
        self.callback = _abi.mlxterp_progress_fn(self._report)

    def _report(self, user: int | None, stage: bytes, done: int, total: int) -> int:
        try:
            return int(self._tell(stage.decode(), done, total) is False)
        except BaseException as e:  # raised again by the load
            pending.error = e
            return 1

    def close(self) -> None:
        """Ends the bars."""
        if isinstance(self._tell, _Bars):
            self._tell.close()


def _is_bar(told: Any) -> bool:
    return hasattr(told, "update")


class _Bars:
    """One bar a stage, made by a class such as tqdm."""

    def __init__(self, make: Any) -> None:
        self._make, self._stage = make, ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._bar is None or stage != self._stage:
            self.close()
            made = self._make
            self._bar = made(total=total, desc=stage, unit="B", unit_scale=True) if isinstance(made, type) else made
            self._stage = stage
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
