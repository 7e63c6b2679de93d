"""How values look: in the terminal and in a notebook."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .array import Array

_EDGE = 3
_MANY = 200


class Interface:
    """An array as numpy's array interface and nothing else."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def empty(shape: tuple[int, ...]) -> Any:
    """Nested lists of a shape that has no elements."""
    return [empty(shape[1:]) for _ in range(shape[0])] if shape else []


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _nested(array: Array, indent: str) -> str:
    if array.ndim == 0:
        return _number(array.item())
    n = len(array)
    shown: list[int | None] = list(range(n))
    if array.size > _MANY and n > 2 * _EDGE:
        shown = [*range(_EDGE), None, *range(n - _EDGE, n)]
    if array.ndim == 1:
        values = array.tolist() if None not in shown else [*array[:_EDGE].tolist(), None, *array[-_EDGE:].tolist()]
        return "[" + ", ".join("..." if v is None else _number(v) for v in values) + "]"
    inner = indent + " "
    parts = ["..." if i is None else _nested(array[i], inner) for i in shown]
    return "[" + (",\n" + inner).join(parts) + "]"


def text(array: Array) -> str:
    """Values (the edges of large arrays), shape and dtype."""
    about = f"shape={array.shape}, dtype={array.dtype}"
    try:
        if array.dtype == "complex64":
            return f"array({about})"
        return f"array({_nested(array, ' ' * 6)}, {about})"
    except Exception as e:  # a debugger shows broken values too
        return f"<array {about}: {e}>"


def html(array: Array) -> str:
    """A small table with shape, dtype, range and the values."""
    rows = {"shape": str(array.shape), "dtype": str(array.dtype), "memory": f"{array.nbytes:,} bytes"}
    if array.size and array.dtype.startswith(("float", "bfloat", "int", "uint")):
        numbers = array.astype("float32")
        low, mean, high = numbers.min().item(), numbers.mean().item(), numbers.max().item()
        rows["min · mean · max"] = f"{low:.5g} · {mean:.5g} · {high:.5g}"
    return table(rows) + f"<pre>{_html.escape(text(array))}</pre>"


def table(rows: dict[str, str]) -> str:
    """Two columns."""
    left = "style='text-align:left'"
    lines = (f"<tr><th {left}>{_html.escape(k)}</th><td>{_html.escape(v)}</td></tr>" for k, v in rows.items())
    return "<table>" + "".join(lines) + "</table>"


def grid(head: list[str], lines: list[list[str]]) -> str:
    """A table with a head line."""
    rows = [_row("th", head), *(_row("td", line) for line in lines)]
    return "<table>" + "".join(rows) + "</table>"


def _row(tag: str, cells: list[str]) -> str:
    inside = (f"<{tag} style='text-align:left'>{_html.escape(c)}</{tag}>" for c in cells)
    return "<tr>" + "".join(inside) + "</tr>"
