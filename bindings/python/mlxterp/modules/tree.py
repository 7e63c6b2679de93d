"""The modules of a module: found in lists, dicts and tuples, nested, shared and in cycles."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from ..errors import UnknownSiteError

#: What every module has and what is no child.
_OWN = ("_no_grad", "_training")
_SIDES = ("input", "output")


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    import mlx.nn as nn

    if isinstance(value, nn.Module):
        yield from ((str(k), v) for k, v in value.items())
        # Private attributes and those of odd types are not items of the module.
        yield from ((k, v) for k, v in vars(value).items() if k not in _OWN and k not in value)
    elif isinstance(value, dict):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), v) for i, v in enumerate(value))


class Tree:
    """Paths of modules. One that is reached in several ways has the first as its path, the others lead there."""

    def __init__(self, root: Any) -> None:
        import mlx.nn as nn

        self.root = root
        #: Path of each module by its identity.
        self.paths: dict[int, str] = {}
        self.modules: dict[str, Any] = {}
        #: Other ways to a module.
        self.aliases: dict[str, str] = {}
        #: Lists and dicts on the way: what a run may have changed in them is put back.
        self.containers: list[Any] = []
        seen: set[int] = set()
        stack: list[tuple[str, Any]] = [("", root)]
        while stack:
            path, value = stack.pop()
            if isinstance(value, nn.Module):
                known = self.paths.get(id(value))
                if known is not None:
                    self.aliases[path] = known
                    continue
                self.paths[id(value)] = path
                self.modules[path] = value
            elif isinstance(value, (dict, list, tuple)):
                # A container in a cycle is gone through once; a shared one leads to known modules by other ways.
                if id(value) in seen and not any(isinstance(v, nn.Module) for _, v in _children(value)):
                    continue
                if id(value) not in seen and not isinstance(value, tuple):
                    self.containers.append(value)
                seen.add(id(value))
            else:
                continue
            stack.extend((_join(path, k), v) for k, v in reversed(list(_children(value))))
        self._counts: dict[str, int] = {}
        for path in self.modules:
            above, _, last = path.rpartition(".")
            if last.isdigit():
                self._counts[above] = max(self._counts.get(above, 0), int(last) + 1)

    def split(self, name: str) -> tuple[str, str]:
        """A name as a module's path and the rest: `input` or `output`, keys and number of the call.

        A module's own name means its output. Negative numbers count from the end of a list.
        """
        parts = self._counted(name).split(".") if name else []
        for end in range(len(parts), -1, -1):
            path = self._real(".".join(parts[:end]))
            rest = parts[end:]
            if path is None or (rest and rest[0].partition("#")[0] not in _SIDES):
                continue
            if rest:
                return path, ".".join(rest)
            if end:
                return path, "output"
        raise self.unknown(name)

    def _real(self, path: str) -> str | None:
        """A module's own path, other ways looked through."""
        for _ in range(64):
            if path in self.modules:
                return path
            parts = path.split(".")
            for end in range(len(parts), 0, -1):
                head = ".".join(parts[:end])
                if head in self.aliases:
                    rest = ".".join(parts[end:])
                    path = _join(self.aliases[head], rest) if rest else self.aliases[head]
                    break
            else:
                return None
        return None

    def _counted(self, name: str) -> str:
        done: list[str] = []
        for part in name.split("."):
            count = self._counts.get(".".join(done), 0)
            if part.startswith("-") and part[1:].isdigit() and 0 < int(part[1:]) <= count:
                part = str(count - int(part[1:]))
            done.append(part)
        return ".".join(done)

    def matching(self, pattern: str) -> list[str]:
        """The names that a name or pattern means, `*` standing for one part of a path."""
        if "*" not in pattern:
            return [_join(*self.split(pattern))]
        wanted = self._counted(pattern).split(".")
        found = []
        for path in [*self.modules, *self.aliases]:
            parts = path.split(".") if path else []
            rest = wanted[len(parts) :]
            fits = len(wanted) >= len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts))
            if fits and (not rest or rest[0].partition("#")[0] in _SIDES):
                # `*` alone means modules, not the values of the root.
                name = _join(self._real(path) or "", ".".join(rest) or "output")
                if (rest or path) and name not in found:
                    found.append(name)
        if not found:
            raise UnknownSiteError(f"the pattern '{pattern}' matches no module{self._hint(pattern.replace('*', '0'))}")
        return found

    def unknown(self, name: str) -> UnknownSiteError:
        return UnknownSiteError(f"no site '{name}': {len(self.modules)} modules were found{self._hint(name)}")

    def _hint(self, name: str) -> str:
        known = [_join(p, s) for p in self.modules for s in _SIDES] + [p for p in self.modules if p]
        near = difflib.get_close_matches(name, known, 1)
        return f"; did you mean '{near[0]}'?" if near else ""
