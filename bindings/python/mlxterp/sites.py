"""Sites as attributes: `model.layers[3].attn.output` is a path through the tree of site names."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import InterpretableModel
    from .trace import Trace


class Node:
    """A name in the tree. A name with no others below it is a value; the rest are modules."""

    __slots__ = ("path", "children", "is_value", "count")

    def __init__(self, path: str, is_value: bool = False) -> None:
        self.path = path
        self.children: dict[str, Node] = {}
        self.is_value = is_value
        #: How many numbered children there are.
        self.count = 0

    @property
    def is_leaf(self) -> bool:
        """Whether it is a value and no module too. Numbers below it are further values of the same call."""
        return self.is_value and self.count == len(self.children)

    def add(self, path: str) -> None:
        """Puts a site's name into the tree."""
        self.at(path).is_value = True

    def at(self, path: str) -> Node:
        """The node of a name, made if need be."""
        node = self
        for part in path.split("."):
            below = f"{node.path}.{part}" if node.path else part
            if part not in node.children:
                node.children[part] = Node(below)
                node.count += part.isdigit()
            node = node.children[part]
        return node


class Names:
    """Attribute access over a node of the tree: what models, traces and modules have in common."""

    __slots__ = ()

    def _tree(self) -> Node:
        raise NotImplementedError

    def _model_of_names(self) -> InterpretableModel:
        raise NotImplementedError

    def _trace_now(self, path: str) -> Trace:
        """The trace that a value at this path belongs to."""
        raise NotImplementedError

    def _scope(self) -> Names:
        return self

    def _child(self, name: str) -> Node:
        tree = self._tree()
        node = tree.children.get(name)
        if node is None:
            path = f"{tree.path}.{name}" if tree.path else name
            node = tree.children[name] = self._model_of_names()._other_spelling(path)
        return node

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        node = self._child(name)
        # `output` is the logits even where the checkpoint calls its head so: that is `lm_head` everywhere.
        if node.is_leaf or (node.is_value and node.path == "output"):
            return self._trace_now(node.path).read(node.path)
        return Site(self._scope(), node)

    def _write(self, name: str, value: Any) -> None:
        path = self._child(name).path
        self._trace_now(path).write(path, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._tree().children]


class Site(Names):
    """A module: its attributes are its values and submodules."""

    __slots__ = ("_root", "_node")

    def __init__(self, root: Names, node: Node) -> None:
        object.__setattr__(self, "_root", root)
        object.__setattr__(self, "_node", node)

    _root: Names
    _node: Node

    def _tree(self) -> Node:
        return self._node

    def _model_of_names(self) -> InterpretableModel:
        return self._root._model_of_names()

    def _trace_now(self, path: str) -> Trace:
        return self._root._trace_now(path)

    def _scope(self) -> Names:
        return self._root

    def __getattr__(self, name: str) -> Any:
        # The same as everywhere, without detours: reading a site should cost little more than its door.
        node = self._node.children.get(name)
        if node is None:
            return super().__getattr__(name)
        if node.is_leaf:
            path = node.path
            return self._root._trace_now(path).read(path)
        return Site(self._root, node)

    def __setattr__(self, name: str, value: Any) -> None:
        self._write(name, value)

    @property
    def path(self) -> str:
        """The name by which every front end knows it."""
        return self._node.path

    def save(self) -> Any:
        """The module's output."""
        return self._trace_now(self.path).read(self.path)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if isinstance(index, str):
            return getattr(self, index)
        return self.__getattr__(str(self._number(index)))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._write(str(index if isinstance(index, str) else self._number(index)), value)

    def _number(self, index: Any) -> int:
        i, n = operator.index(index), self._node.count
        if n == 0:
            raise TypeError(
                f"'{self.path}' is a module without numbered parts: index its value, such as {self.path}.output[0, -1]"
            )
        return i + n if -n <= i < 0 else i

    def __len__(self) -> int:
        return self._node.count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        names = sorted(self._node.children, key=lambda n: (not self._node.children[n].is_value, n))
        if self._node.count:
            names = [f"0 … {self._node.count - 1}", *(n for n in names if not n.isdigit())]
        return f"<{self.path}: {', '.join(names)}>"
