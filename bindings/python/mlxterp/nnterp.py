"""nnterp's names for the same sites."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .array import Array

if TYPE_CHECKING:
    from .model import InterpretableModel
    from .trace import Trace


class PerLayer:
    """One value a layer: `model.layers_output[3]`, which can be assigned to."""

    def __init__(self, model: InterpretableModel, name: str) -> None:
        self._model, self._name = model, name

    def _site(self, layer: Any) -> str:
        i, n = operator.index(layer), self._model.num_layers
        if not -n <= i < n:
            raise IndexError(f"there is no layer {i}: the model has {n}")
        return f"layers.{i % n}.{self._name}"

    def __getitem__(self, layer: Any) -> Any:
        if isinstance(layer, slice):
            return [self[i] for i in range(*layer.indices(len(self)))]
        site = self._site(layer)
        return self._model._trace_now(site).read(site)

    def __setitem__(self, layer: Any, value: Any) -> None:
        site = self._site(layer)
        self._model._trace_now(site).write(site, value)

    def __len__(self) -> int:
        return self._model.num_layers

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<layers.0.{self._name} … layers.{len(self) - 1}.{self._name}>"


def _per_layer(name: str, doc: str) -> property:
    return property(lambda model: PerLayer(model, name), doc=doc)


def _value(site: str, doc: str) -> property:
    def read(model: Any) -> Array:
        value: Array = model._trace_now(site).read(site)
        return value

    return property(read, lambda model, new: model._trace_now(site).write(site, new), doc=doc)


class Accessors:
    """nnterp's accessors. Inside a trace they read, and where a value can be changed they write."""

    layers_input = _per_layer("input", "What each layer gets: the residual stream before it.")
    layers_output = _per_layer("output", "What each layer gives: the residual stream after it.")
    attentions_input = _per_layer("attn.input", "What each attention module gets.")
    attentions_output = _per_layer("attn.output", "What each attention module gives.")
    mlps_input = _per_layer("mlp.input", "What each feed-forward module gets.")
    mlps_output = _per_layer("mlp.output", "What each feed-forward module gives.")
    attention_probabilities = _per_layer("attn.pattern", "Attention patterns [row, head, query, key] a layer.")

    token_embeddings = _value("embed.output", "The token embeddings [row, position, hidden].")
    logits = _value("output", "The final logits [row, position, vocabulary].")

    @property
    def attentions(self: Any) -> list[Any]:
        """Each layer's attention module."""
        return [layer.attn for layer in self.layers]

    @property
    def mlps(self: Any) -> list[Any]:
        """Each layer's feed-forward module."""
        return [layer.mlp for layer in self.layers]

    @property
    def embed_tokens(self: Any) -> Any:
        """The embedding module."""
        return self.embed

    @property
    def ln_final(self: Any) -> Any:
        """The final norm."""
        return self.norm

    @property
    def unembed(self: Any) -> Any:
        """The head that makes logits."""
        return self.lm_head

    @property
    def input_ids(self: Any) -> Array:
        """The token ids [row, position] of the running trace."""
        trace: Trace = self._trace_now("input_ids")
        return trace.batch.ids

    @property
    def input_size(self: Any) -> tuple[int, int]:
        """Rows and positions of the running trace."""
        trace: Trace = self._trace_now("input_size")
        return len(trace.batch), trace.batch.width

    @property
    def next_token_probs(self: Any) -> Array:
        """Probabilities of the next token after each row's own last one: [row, vocabulary]."""
        trace: Trace = self._trace_now("output")
        return trace.last("output").softmax(-1)
