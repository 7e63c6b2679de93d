"""What can go wrong, one class a kind; each is also the built-in exception a Python programmer would catch."""

from __future__ import annotations


class MlxterpError(Exception):
    """Any error of this package. Its message names the value, the place and the way out."""

    def __str__(self) -> str:
        # KeyError and OSError would dress the message up; it is meant to be read as it is.
        return str(self.args[0]) if self.args else ""


class InvalidArgumentError(MlxterpError, ValueError):
    """An argument that can never be right."""


class SubscriptError(MlxterpError, IndexError, ValueError):
    """A subscript outside an array."""


class NotFoundError(MlxterpError, FileNotFoundError):
    """A file, a directory, a tensor or a repository that is not there."""


class InputOutputError(MlxterpError, OSError):
    """The operating system or the network refused."""


class CorruptFileError(MlxterpError, ValueError):
    """A file whose bytes contradict themselves."""


class UnsupportedError(MlxterpError, NotImplementedError):
    """Something this library cannot do."""


class ConfigError(MlxterpError, ValueError):
    """A missing or absurd value in config.json."""


class DescriptionError(MlxterpError, ValueError):
    """A mistake in an architecture description."""


class ShapeError(MlxterpError, ValueError):
    """Two shapes that cannot meet."""


class UnknownSiteError(MlxterpError, KeyError, AttributeError):
    """No site of that name."""


class StaleWrite(MlxterpError, RuntimeError):
    """A write behind a value that was already read."""


class StrictError(MlxterpError, RuntimeError):
    """A strict trace in which a write changed or reached nothing."""


class HookError(MlxterpError, RuntimeError):
    """A callback failed without an exception of its own."""


class BusyError(MlxterpError, RuntimeError):
    """The object is in use by a call further up the stack."""


class BackendError(MlxterpError, RuntimeError):
    """MLX refused or failed."""


class NotEvaluatedError(MlxterpError, RuntimeError):
    """The data was asked for before it was computed."""


class NotExecutedError(MlxterpError, RuntimeError):
    """An expert that no token of the run was routed to."""


class InternalError(MlxterpError, RuntimeError):
    """A bug in the library."""


class OutsideTraceError(MlxterpError, RuntimeError):
    """A value of a forward pass was asked for while none is under way."""


class LibraryError(MlxterpError, ImportError):
    """libmlxterp was not found, or is not the one this package was made for."""


class AlignedWarning(UserWarning):
    """A value from a prompt of another length was written at the last positions."""


BY_STATUS: dict[int, type[MlxterpError]] = {
    1: InvalidArgumentError,
    2: NotFoundError,
    3: InputOutputError,
    4: CorruptFileError,
    5: UnsupportedError,
    6: ConfigError,
    7: DescriptionError,
    8: ShapeError,
    9: UnknownSiteError,
    10: StaleWrite,
    11: StrictError,
    12: HookError,
    13: BusyError,
    14: BackendError,
    15: NotEvaluatedError,
    16: InternalError,
    17: NotExecutedError,
}
