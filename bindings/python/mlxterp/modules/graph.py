"""MLX's lazy graph, as far as it can be seen: which values depend on which.

`mx.export_to_dot` writes the graph down without computing anything; arrays that it is given by name are named there.
"""

from __future__ import annotations

import io
import re
from typing import Any

import mlx.core as mx

_STEP = re.compile(r"^\{ \d+ \[")
_EDGE = re.compile(r'^("[^"]*"|\d+) -> ("[^"]*"|\d+)$')


def _drawn(arrays: dict[str, Any]) -> str:
    text = io.StringIO()
    mx.export_to_dot(text, **arrays)
    return text.getvalue()


class Graph:
    """What flows from named values to named values."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._next: dict[str, list[str]] = {}
        made: set[str] = set()
        step = 0
        for line in _drawn(arrays).splitlines():
            # Each step stands in a block of its own. Its number is no name: calls of one compiled function share it.
            if _STEP.match(line):
                step += 1
            edge = _EDGE.match(line)
            if edge:
                source, target = (end if end.startswith('"') else str(step) for end in edge.groups())
                self._next.setdefault(source, []).append(target)
                made.add(target)
        #: Named values that nothing in the graph makes: they were computed meanwhile, and what made them is forgotten.
        self.roots = {name for name in arrays if f'"{name}"' not in made}
        self._names = set(arrays)

    def after(self, names: set[str]) -> set[str]:
        """The named values that depend on any of these, these themselves left out."""
        stack = [f'"{name}"' for name in names]
        seen = set(stack)
        found = set()
        while stack:
            for target in self._next.get(stack.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
                    name = target.strip('"')
                    if name in self._names:
                        found.add(name)
        return found - names


def changed_in_place(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Of pairs that stood for one value each, those that do so no longer."""
    if not pairs:
        return []
    named = {f"{side}{i}": array for i, pair in enumerate(pairs) for side, array in zip("ab", pair)}
    text = _drawn(named)
    # One value is drawn once, under one of its names.
    return [pair for i, pair in enumerate(pairs) if f'"a{i}"' in text and f'"b{i}"' in text]
