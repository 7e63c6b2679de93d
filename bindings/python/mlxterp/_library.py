"""Finding libmlxterp, checking that it is the right one, and turning statuses into exceptions.

On Linux libmlxterp and mlx.core share the libmlx that was loaded first. Either order works; the one that a source
checkout sets up has the faster BLAS, so `import mlxterp` before `import mlx.core` where that matters.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from . import _abi
from ._where import add_note, users_line
from .errors import BY_STATUS, HookError, InternalError, LibraryError, MlxterpError

#: The MLX release that libmlxterp is built with. On Linux a process has one libmlx, so mlx.core must be the same.
MLX_VERSION = "0.32.2"

_NAME = "libmlxterp.dylib" if sys.platform == "darwin" else "libmlxterp.so"


def _places() -> Iterator[Path]:
    here = Path(__file__).resolve().parent
    yield here / _NAME
    # A source checkout: bindings/python/mlxterp/ beside target/; the build made last is the one being worked on.
    target = here.parents[2] / "target" if len(here.parents) > 2 else here
    built = [p for p in (target / "release" / _NAME, target / "debug" / _NAME) if p.is_file()]
    yield from sorted(built, key=lambda p: p.stat().st_mtime, reverse=True)


def _find() -> Path:
    asked = os.environ.get("MLXTERP_LIBRARY")
    if asked:
        path = Path(asked) / _NAME if os.path.isdir(asked) else Path(asked)
        if not path.is_file():
            raise LibraryError(f"MLXTERP_LIBRARY is '{asked}', but there is no file '{path}'")
        return path
    tried = []
    for path in _places():
        if path.is_file():
            return path
        tried.append(str(path))
    raise LibraryError(
        f"{_NAME} was not found (looked for {', '.join(tried)}): build it with `cargo build --release`, "
        "or set MLXTERP_LIBRARY to its path"
    )


def _check_mlx() -> None:
    mlx = sys.modules.get("mlx.core")
    version = getattr(mlx, "__version__", MLX_VERSION)
    # The loader gives libmlxterp the libmlx that mlx.core brought along; another release would crash, not fail.
    if sys.platform.startswith("linux") and version.split("+")[0] != MLX_VERSION:
        raise LibraryError(
            f"mlx {version} is imported, but libmlxterp is built with MLX {MLX_VERSION} and both share one libmlx: "
            f"`pip install mlx=={MLX_VERSION} mlx-cpu=={MLX_VERSION}`, or do not import mlx.core here"
        )


def _load() -> ctypes.CDLL:
    path = _find()
    _check_mlx()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as e:
        raise LibraryError(f"'{path}' cannot be loaded: {e}") from e
    library.mlxterp_abi_version.restype = ctypes.c_uint32
    version = library.mlxterp_abi_version()
    if version != _abi.MLXTERP_ABI_VERSION:
        raise LibraryError(
            f"'{path}' has binary interface {version}, this package wants {_abi.MLXTERP_ABI_VERSION}: "
            "install library and package of the same release"
        )
    _abi.declare(library)
    return library


class _Pending(threading.local):
    """The exception that a callback of this thread raised and that the call which ran it has to raise again."""

    error: BaseException | None = None


lib = _load()
pending = _Pending()


def check(status: int) -> None:
    """Raises what a status means."""
    if status:
        raise failure(status)


def failure(status: int) -> BaseException:
    """The exception for a status of this thread's last call: a callback's own where one raised."""
    raised, pending.error = pending.error, None
    if raised is not None:
        return raised
    message = (lib.mlxterp_last_error_message() or b"").decode("utf-8", "replace")
    kind = BY_STATUS.get(status, InternalError)
    error: MlxterpError = kind(message or f"status {status}")
    place = users_line()
    if place is not None and kind is not HookError:
        add_note(error, f"raised for {place}")
    return error


def take_text(pointer: int | None) -> str:
    """Text that the library gave, freed."""
    if not pointer:
        return ""
    try:
        return ctypes.string_at(pointer).decode("utf-8", "replace")
    finally:
        lib.mlxterp_string_free(pointer)


def c_text(text: str, name: str) -> bytes:
    """Text for the library. A NUL would silently end it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"{name} has a NUL character at {text.index(chr(0))}: remove it")
    return text.encode("utf-8")


def live_handles() -> int:
    """Handles of the library that are alive in this process: what a leak test counts."""
    return int(lib.mlxterp_live_handles())


def memory_used() -> int:
    """Bytes that MLX holds in live arrays."""
    return int(lib.mlxterp_memory_used())


def backend() -> str:
    """Where MLX computes: cpu, metal or cuda."""
    name: bytes = lib.mlxterp_backend()
    return name.decode()


_exiting: list[bool] = []


class Handle:
    """Owns one handle of the library and frees it once."""

    __slots__ = ("_handle", "__weakref__")

    _handle: int
    _free: ClassVar[Callable[[int], None]]

    def disown(self) -> int:
        """Gives the handle away: whoever gets it frees it."""
        handle, self._handle = self._handle, 0
        return handle

    def __reduce__(self) -> Any:
        # A copy of the number would be freed twice.
        raise TypeError(f"a {type(self).__name__} lives in this process only: it cannot be copied or pickled")

    def __del__(self, exiting: list[bool] = _exiting) -> None:
        handle = getattr(self, "_handle", 0)
        if handle and not exiting:
            self._handle = 0
            type(self)._free(handle)


@atexit.register
def _leave() -> None:
    # From here on the interpreter takes its modules apart: a handle freed now could call back into nothing.
    _exiting.append(True)
