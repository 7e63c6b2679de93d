"""Generation: steps that are traces, text, steering, chats, and what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mlxterp import (
    Condition,
    HookError,
    InterpretableModel,
    InvalidArgumentError,
    NotFoundError,
    StaleWrite,
    Steer,
    StrictError,
    UnknownSiteError,
)
from mlxterp import interventions as iv

from conftest import ROOT

EXPECTED = json.loads((ROOT / "tests/fixtures/generation/expected.json").read_text())


def test_the_tokens_are_those_of_transformers(smol: InterpretableModel) -> None:
    rows = [r for r in EXPECTED["smollm2"] if isinstance(r["prompt"], str)][:2]
    generation = smol.generate([r["prompt"] for r in rows], 40)
    assert generation.tokens == [r["tokens"] for r in rows]
    assert generation.texts == [r["text"] for r in rows]
    assert [r.finish for r in generation.rows] == ["eos" if r["tokens"][-1] == 2 else "length" for r in rows]
    assert generation.done


def test_every_step_is_a_trace(tiny: InterpretableModel, no_leak: None) -> None:
    plain = tiny.generate([5, 9, 33], 4, eos=[]).tokens[0]
    drawn = []
    for step in tiny.generate([5, 9, 33], 4, eos=[]):
        assert np.asarray(step.trace.layers[0].output).shape[1] == (3 if step.number == 0 else 1)
        if step.number == 1:
            step.trace.layers[1].output = np.zeros(24)
            assert step.trace.receipts()[0]["step"] == 1
        drawn.append(step.token)
        with pytest.raises(StaleWrite):
            step.trace.layers[1].output = np.zeros(24)
    assert drawn[0] == plain[0] and drawn[1] != plain[1] and len(drawn) == 4
    # A step's tokens can be asked for later too.
    steps = list(tiny.generate([5, 9, 33], 4, eos=[]))
    assert [s.token for s in steps] == plain


def test_text_comes_piece_by_piece_and_stops(smol: InterpretableModel) -> None:
    whole = smol.generate("Once upon a time", 30).text
    generation = smol.generate("Once upon a time", 30, stop="thriving metro")
    pieces = [step.text for step in generation]
    assert "".join(pieces) == generation.text == whole.split("thriving metro")[0]
    assert generation.rows[0].finish == "stop" and generation.rows[0].stop == "thriving metro"


def test_steering_when_and_while(tiny: InterpretableModel) -> None:
    plain = tiny.generate([5, 9, 33], 6, eos=[]).tokens[0]
    vector = np.arange(24) * 0.3

    def run(**options: Any) -> list[int]:
        return tiny.generate([5, 9, 33], 6, eos=[], **options).tokens[0]

    add = iv.add_vector(vector)
    always = run(interventions={"layers.0.output": add})
    assert always == run(steering=[("layers.0.output", add)]) == run(steering=Steer("layers.0.output", add)) != plain
    decode = run(steering=[Steer("layers.0.output", add, "decode")])
    assert decode[0] == plain[0] and decode != plain
    with tiny.steer(0, vector):
        assert run() == always
    direction = np.ones(24)
    never = Condition("layers.0.output", direction, above=1e9)
    sure = Condition("layers.0.output", direction, below=1e9, bias=2.0)
    assert "above 1000000000" in repr(never)
    assert run(steering=[("layers.1.output", add, "always", never)]) == plain
    assert run(steering=[("layers.1.output", add, "always", sure)]) == run(interventions={"layers.1.output": add})


def test_a_function_sees_its_step(tiny: InterpretableModel) -> None:
    seen = []

    def look(value: Any, event: iv.Event) -> None:
        seen.append((event.step, event.lengths))

    tiny.generate([[5, 9, 33], [4]], 3, eos=[], interventions={"layers.0.mlp": look}).run()
    assert seen == [(0, (3, 1)), (1, (1, 1)), (2, (1, 1))]


def test_sampling_repeats_itself_row_by_row(tiny: InterpretableModel) -> None:
    def draw(prompts: Any, seed: int) -> list[list[int]]:
        return tiny.generate(prompts, 12, temperature=1.0, top_p=0.95, seed=seed, eos=[]).tokens

    both = draw([[5, 9], [11, 60, 4]], 3)
    assert both == [draw([5, 9], 3)[0], draw([11, 60, 4], 4)[0]] != draw([[5, 9], [11, 60, 4]], 9)


def test_chats(smol: InterpretableModel, worded: InterpretableModel) -> None:
    row = EXPECTED["smollm2"][-1]
    assert smol.chat(row["prompt"], 8).tokens[0] == row["tokens"][:8]
    assert smol.chat(row["prompt"][0]["content"], 8).tokens[0] == row["tokens"][:8]
    for case in json.loads((ROOT / "tests/fixtures/chat/expected.json").read_text())["cases"]:
        if case["template"] == "smollm2" and "text" in case:
            assert smol.apply_chat_template(case["messages"], case["prompt"], **case["extra"]) == case["text"]
    with pytest.raises(InvalidArgumentError, match="no system"):
        worded.apply_chat_template(
            [{"role": "user", "content": "x"}], chat_template="{{ raise_exception('no system') }}"
        )
    with pytest.raises(InvalidArgumentError, match="cannot be written as JSON"):
        worded.apply_chat_template([{"role": "user", "content": object()}])


def test_mistakes(tiny: InterpretableModel, no_leak: None) -> None:
    for options, says in [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is NaN"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"top_k": 0}, "top_k is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": ""}, "a stop string is empty"),
        ({"eos": [64]}, "eos id 64"),
        ({"steering": [("layers.0.output", iv.zero_out, "sometimes")]}, "use 'prefill'"),
    ]:
        with pytest.raises(InvalidArgumentError, match=says):
            tiny.generate([5, 9], **options)
    with pytest.raises(UnknownSiteError, match="layers.9"):
        tiny.generate([5, 9], interventions={"layers.9.output": iv.zero_out})
    with pytest.raises(InvalidArgumentError, match="is empty"):
        tiny.generate([[]])
    with pytest.raises(NotFoundError, match="has no tokenizer"):
        tiny.chat("hello")
    with pytest.raises(InvalidArgumentError, match="above= or below="):
        Condition("layers.0.output", np.ones(24))
    with pytest.raises(InvalidArgumentError, match="2 rows"):
        _ = tiny.generate([[5], [9]], 1).text
    with pytest.raises(StrictError, match="changed nothing"):
        tiny.generate([5], 2, eos=[], strict=True, interventions={"layers.0.output": iv.scale(1.0)}).run()


def test_what_a_callback_raises_comes_back_and_ends_the_generation(tiny: InterpretableModel, no_leak: None) -> None:
    plain = tiny.generate([5, 9], 5, eos=[]).tokens

    def fail(step: Any) -> None:
        if step.number == 2:
            raise KeyError("enough")

    generation = tiny.generate([5, 9], 5, eos=[], on_step=fail)
    with pytest.raises(KeyError, match="enough"):
        generation.run()
    assert generation.done and generation.rows[0].tokens == plain[0][:2] and list(generation) == []

    def hook(value: Any, event: iv.Event) -> None:
        if event.step == 1:
            raise OverflowError("in a hook")

    with pytest.raises(OverflowError, match="in a hook"):
        tiny.generate([5, 9], 5, eos=[], interventions={"layers.0.mlp": hook}).run()
    assert not issubclass(OverflowError, HookError)
    assert tiny.generate([5, 9], 5, eos=[]).tokens == plain
