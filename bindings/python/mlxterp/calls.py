"""Arguments of a call as a value, for models that take any."""

from __future__ import annotations

from typing import Any


class Call:
    """The arguments of one call of a module."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        given = [*(_short(a) for a in self.args), *(f"{k}={_short(v)}" for k, v in self.kwargs.items())]
        return f"call({', '.join(given)})"


def call(*args: Any, **kwargs: Any) -> Call:
    """Arguments for a module: one of several calls of a batch, or any whose names `trace` uses itself."""
    return Call(args, kwargs)


def _short(value: Any) -> str:
    return f"array{tuple(value.shape)}" if hasattr(value, "shape") else repr(value)
