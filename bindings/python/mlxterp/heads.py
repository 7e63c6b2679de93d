"""What attention heads look at, read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tools import Result, run

if TYPE_CHECKING:
    from .model import InterpretableModel


def head_scores(
    model: InterpretableModel,
    prompts: Any = None,
    *,
    rows: int | None = None,
    length: int | None = None,
    times: int | None = None,
    seed: int | None = None,
    **more: Any,
) -> Result:
    """How much each head looks at the token before ("previous_token"), at copies of its token ("duplicate_token"), at what came
    after those ("induction"), at the first token and at itself ("current_token"), less what an even pattern would.

    prompts: text or token ids; without them, repeated random tokens:
    rows, length, times, seed: 8 rows of 24 different tokens, twice over.

    Array: "scores" [score, layer, head]. Not a number where no query sees such a key. `more` is what `run` takes.
    """
    return run(model, "head_scores", prompts=prompts, rows=rows, length=length, times=times, seed=seed, **more)


def attention_patterns(
    model: InterpretableModel, prompt: Any, layers: list[int] | None = None, **more: Any
) -> Result:
    """Where each head looks in one prompt. Array: "patterns" [layer, head, query, key]. `more` is what `run` takes."""
    return run(model, "attention_patterns", prompt=prompt, layers=layers, **more)


def head_circuit(model: InterpretableModel, layer: int, head: int) -> Result:
    """The QK and OV circuits of a head, as factors of the head's size.

    Arrays: "qk.a" [width, size] and "qk.b" [size, width], whose product is W_Q W_K^T; "ov.a" and "ov.b" likewise, W_V W_O;
    "qk.singular_values" and "ov.singular_values" [size]; "qk.eigenvalues" and "ov.eigenvalues" [size, 2], real and
    imaginary. `data["left_out"]` says what they leave out in this model.
    """
    return run(model, "head_circuit", layer=layer, head=head)


def composition_scores(model: InterpretableModel, layers: list[int] | None = None) -> Result:
    """How much of what each head writes the queries, keys and values of later heads read, as weights say, less what random
    matrices give. Array: "scores" [kind, from, to]; not a number where `to` is not in a later layer."""
    return run(model, "composition_scores", layers=layers)


def copying_scores(model: InterpretableModel, layers: list[int] | None = None) -> Result:
    """Whether each head makes likelier the token that it looks at: 1 copies, -1 suppresses. Array: "scores" [layer, head]."""
    return run(model, "copying_scores", layers=layers)
