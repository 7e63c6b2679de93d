"""Traces from Python: names, reads, writes, forks, receipts."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import mlxterp
from mlxterp import InterpretableModel, OutsideTraceError, StaleWrite, UnknownSiteError, asarray
from mlxterp import interventions as iv

PROMPT = [1, 5, 9, 2]


def plain(model: InterpretableModel, prompt: object = PROMPT) -> np.ndarray:
    return np.asarray(model.forward(prompt)).copy()


def test_every_way_of_naming_a_site_is_the_same_value(tiny: InterpretableModel) -> None:
    with tiny.trace(PROMPT) as trace:
        one = np.asarray(tiny.layers[1].attn.output)
        for other in (
            tiny.layers[-1].attn.output,
            tiny.model.layers[1].self_attn.output,
            tiny.layers[1].attn.save(),
            tiny.attentions_output[-1],
            trace.layers[1].attn.output,
            trace["layers.1.attn"],
            trace.read("model.layers.1.self_attn.output"),
            trace.activations["model.layers.1.self_attn"],
            tiny.layers[0:2][1].attn.output,
        ):
            np.testing.assert_array_equal(np.asarray(other), one)
        assert tiny.model.layers[0].self_attn.q_proj.output.shape == (1, 4, 48)
        np.testing.assert_array_equal(tiny.logits, tiny.output)
        np.testing.assert_array_equal(tiny.layers[0].resid_post, tiny.layers[1].input)
        np.testing.assert_array_equal(tiny.layers[0].resid_pre, tiny.embed.output)
    np.testing.assert_array_equal(trace.output, plain(tiny))
    np.testing.assert_array_equal(trace.layers[1].attn.output, one)  # after the block
    with tiny.trace([7]):
        np.testing.assert_array_equal(trace.model.layers[1].self_attn.output, one)  # and in another's


def test_names_can_be_explored(tiny: InterpretableModel) -> None:
    assert len(tiny.layers) == tiny.num_layers == 2
    assert [layer.path for layer in tiny.layers] == ["layers.0", "layers.1"]
    assert "attn" in dir(tiny.layers[0]) and "layers" in dir(tiny) and "q" in dir(tiny.layers[0].attn)
    assert repr(tiny.layers) == "<layers: 0 … 1>"
    assert "output" in repr(tiny.layers[0].attn)
    assert not hasattr(tiny.layers[0], "nothing") and not hasattr(tiny.layers[0], "_repr_png_")
    assert {s.name for s in tiny.sites("layers.*.mlp")} == {f"model.layers.{i}.mlp.output" for i in range(2)}
    assert len(tiny.sites()) == tiny.info["sites"]


def test_a_name_that_does_not_exist_is_told_with_its_neighbours(tiny: InterpretableModel) -> None:
    with pytest.raises(UnknownSiteError, match=r"2 layers.*did you mean 'layers\.1"):
        tiny.layers[99].mlp
    with pytest.raises(AttributeError, match="mpl"):
        tiny.layers[0].mpl
    trace = tiny.trace(PROMPT)
    with pytest.raises(KeyError, match="nothing"):
        trace["nothing"]
    with pytest.raises(UnknownSiteError, match="many"):
        trace.read("layers.*.mlp")
    with pytest.raises(IndexError, match="no layer 7"):
        tiny.layers_output[7]
    with pytest.raises(TypeError, match="without numbered parts"):
        tiny.layers[0].attn[0]
    assert "nothing" not in trace.activations and "layers.0.mlp" in trace.activations


def test_outside_a_trace_there_are_no_values(tiny: InterpretableModel) -> None:
    with pytest.raises(OutsideTraceError, match=r"with model\.trace\(prompt\)"):
        tiny.layers[0].attn.output
    with pytest.raises(OutsideTraceError):
        tiny.layers[0].attn.output = 0
    with pytest.raises(OutsideTraceError):
        tiny.token_embeddings
    with pytest.raises(OutsideTraceError):
        tiny.layers_output[0] = 0


def test_activations_are_every_module_lazily(tiny: InterpretableModel) -> None:
    trace = tiny.trace(PROMPT)
    names = list(trace.activations)
    assert len(names) == len(trace.activations) == len(set(names))
    assert {"model.layers.0.self_attn.q_proj", "model.layers.1.mlp", "model.norm", "lm_head"} <= set(names)
    assert {m["path"] for m in tiny.info["modules"] if m["shape"]} <= set(names)
    values = {name: value for name, value in trace.activations.items()}
    assert not values["model.layers.1"].is_evaluated
    assert np.asarray(values["model.layers.1"]).shape == (1, 4, 24)
    assert repr(trace.activations) == f"<the outputs of {len(names)} modules>"


def test_an_assignment_changes_what_follows(tiny: InterpretableModel) -> None:
    with tiny.trace(PROMPT):
        tiny.layers[0].attn.output = tiny.layers[0].attn.output * 0
        zeroed = tiny.output.save()
    with tiny.trace(PROMPT, interventions={"layers.0.attn": iv.zero_out}) as given:
        pass
    np.testing.assert_array_equal(zeroed, given.output)
    assert abs(np.asarray(zeroed) - plain(tiny)).max() > 0.1


@pytest.mark.parametrize(
    "value", [0, 0.0, np.zeros(24), np.zeros((1, 4, 24), np.float32), [0.0] * 24, iv.zero_out], ids=repr
)
def test_anything_can_be_assigned(tiny: InterpretableModel, value: object) -> None:
    with tiny.trace(PROMPT) as trace:
        tiny.layers[0].mlp.output = value
        assert trace.layers[0].mlp.output.dtype == "float32"
        assert not np.asarray(tiny.layers[0].mlp.output).any()


def test_an_assignment_to_part_of_a_site(tiny: InterpretableModel) -> None:
    vector = np.linspace(-1, 1, 24).astype(np.float32)
    with tiny.trace(PROMPT):
        before = np.asarray(tiny.layers[0].output).copy()
    with tiny.trace(PROMPT) as trace:
        tiny.layers[0].output[:, -1] += vector
        after = np.asarray(tiny.layers[0].output)
    np.testing.assert_array_equal(after[:, :-1], before[:, :-1])
    np.testing.assert_allclose(after[:, -1], before[:, -1] + vector, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(trace.output)[:, :-1], plain(tiny)[:, :-1])
    assert abs(np.asarray(trace.output)[:, -1] - plain(tiny)[:, -1]).max() > 0.01
    with tiny.trace(PROMPT) as same:
        tiny.layers[0].output += 0
        tiny.layers_output[1][0, 1:3] = tiny.layers_output[1][0, 1:3]
    np.testing.assert_array_equal(same.output, plain(tiny))


def test_a_write_behind_what_was_read_is_stale_unless_forked(tiny: InterpretableModel) -> None:
    with tiny.trace(PROMPT) as trace:
        logits = tiny.output.save()
        with pytest.raises(StaleWrite, match="layers.0.mlp.output"):
            tiny.layers[0].mlp.output = 0
        with trace.fork() as fork:
            tiny.layers[0].mlp.output = 0  # the innermost trace of the model
            changed = tiny.output
        assert fork.batch.lengths == (4,)
        np.testing.assert_array_equal(tiny.output, logits)
    assert abs(np.asarray(changed) - np.asarray(logits)).max() > 0.01


def test_forks_as_rows_of_one_batch(tiny: InterpretableModel) -> None:
    trace = tiny.trace(PROMPT)
    trace.layers[0].output.eval()
    rows = trace.fork_rows(3)
    assert rows.batch.lengths == (4, 4, 4) and len(rows.tokens) == 3
    rows.intervene("layers.1.mlp", iv.scale(0).rows(1))
    rows.intervene("layers.1.mlp", iv.scale(2).rows(2))
    for row, factor in enumerate((1, 0, 2)):
        alone = tiny.trace(PROMPT, interventions=[("layers.1.mlp", iv.scale(factor))])
        np.testing.assert_allclose(rows.output[row], alone.output[0], rtol=1e-4, atol=1e-4)


def test_receipts_say_what_a_write_did(tiny: InterpretableModel) -> None:
    with tiny.trace([PROMPT, PROMPT[:2]]) as trace:
        tiny.layers[0].mlp.output[1, 0] = 0
        trace.intervene("layers.1.mlp", iv.scale(1))
        old = tiny.output
    first, second = trace.receipts()
    assert first["site"] == "layers.0.mlp.output" and first["rows"] == [1] and first["positions"] == [0]
    assert first["change_norm"] > 0 and first["reached"]
    assert second["change"] == "scale(1)" and second["change_norm"] == 0
    assert old.shape == (2, 4, 64)


def test_strict_traces_refuse_writes_without_effect_and_say_where(tiny: InterpretableModel) -> None:
    with pytest.raises(mlxterp.StrictError, match="changed nothing") as caught:
        with tiny.trace(PROMPT, strict=True):
            tiny.model.layers[0].mlp.output = tiny.layers[0].mlp.output * 1  # the guilty line
    assert any("the guilty line" in note for note in caught.value.__notes__)
    with pytest.raises(mlxterp.StrictError, match="reached nothing"):
        with tiny.trace(PROMPT, strict=True):
            tiny.layers[0].output.eval()
            tiny.layers[1].mlp.output = 0
    with pytest.raises(ZeroDivisionError):  # the block's own error comes first
        with tiny.trace(PROMPT, strict=True):
            tiny.layers[1].mlp.output = tiny.layers[1].mlp.output
            1 / 0
    with pytest.raises(OutsideTraceError):
        tiny.output


def test_blocks_nest_and_belong_to_their_model(tiny: InterpretableModel, worded: InterpretableModel) -> None:
    with tiny.trace([1, 2]), tiny.trace([1, 2, 3]), worded.trace([5]):
        assert tiny.output.shape == (1, 3, 64)
        assert worded.output.shape[1] == 1
        with tiny.trace([4]):
            assert tiny.output.shape[1] == 1
        assert tiny.output.shape[1] == 3
        seen: list[type] = []

        def elsewhere() -> None:
            try:
                tiny.output
            except OutsideTraceError as e:
                seen.append(type(e))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [OutsideTraceError]  # a block belongs to its thread


def test_threads_give_what_one_after_another_gives(tiny: InterpretableModel) -> None:
    prompts = [[1 + i, 2, 3 + i] for i in range(8)]
    expected = [plain(tiny, p) for p in prompts]
    results: dict[int, np.ndarray] = {}

    def run(i: int) -> None:
        with tiny.trace(prompts[i], interventions={"layers.1.mlp": lambda v: v * 1}):
            tiny.layers[0].output = tiny.layers[0].output
            results[i] = np.asarray(tiny.output).copy()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(prompts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i, e in enumerate(expected):
        np.testing.assert_array_equal(results[i], e)


def test_rows_of_a_padded_batch_are_their_solo_runs(tiny: InterpretableModel) -> None:
    prompts = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]]
    with tiny.trace(prompts) as trace:
        logits, last = np.asarray(tiny.output), np.asarray(trace.last())
        probabilities = np.asarray(tiny.next_token_probs)
    assert trace.tokens == prompts and trace.batch.lengths == (5, 2, 3)
    for row, prompt in enumerate(prompts):
        solo = plain(tiny, prompt)[0]
        np.testing.assert_allclose(logits[row, : len(prompt)], solo, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(last[row], solo[-1], rtol=1e-4, atol=1e-4)
        assert probabilities[row].argmax() == solo[-1].argmax()
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


def test_prompts_come_in_many_forms(worded: InterpretableModel) -> None:
    ids = worded.encode("hello world")
    expected = plain(worded, ids)
    for prompt in ("hello world", ["hello world"], [ids], tuple(ids), np.array(ids), np.array([ids]), asarray([ids])):
        np.testing.assert_array_equal(worded.trace(prompt).output, expected)


def test_plan_and_what_traces_look_like(worded: InterpretableModel) -> None:
    trace = worded.trace(["hello", "hello there world"], interventions={"layers.0.mlp": iv.scale(2)})
    planned = {p.name: p for p in trace.plan()}
    site = planned["model.layers.0.self_attn.output"]
    assert site.standard == "layers.0.attn.output" and site.dtype == "float32"
    assert site.shape == trace.layers[0].attn.output.shape
    assert len(planned) == len(worded.sites()) == len(worded.plan("hello"))
    page = trace._repr_html_()
    assert "layers.0.mlp" in page and "hello" in page and "test_trace.py" in page
    assert "2 prompts" in repr(trace) and "1 writes" in repr(trace)


def test_a_handle_cannot_be_copied_by_accident(tiny: InterpretableModel) -> None:
    trace = tiny.trace(PROMPT)
    for handle in (tiny, trace, trace.batch):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copy.deepcopy(handle)
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            pickle.dumps(handle)
    assert copy.deepcopy(iv.zero_out) is iv.zero_out is copy.copy(iv.zero_out)


def test_keep_all_and_save(tiny: InterpretableModel) -> None:
    kept = tiny.trace(PROMPT, keep="all")
    np.testing.assert_array_equal(kept.save("layers.0.mlp", "output").output, plain(tiny))
    np.testing.assert_array_equal(kept.layers[0].mlp.output, tiny.trace(PROMPT).layers[0].mlp.output)
    with pytest.raises(ValueError, match="keep='some'"):
        tiny.trace(PROMPT, keep="some")


def test_nothing_is_left_behind(tiny: InterpretableModel, no_leak: None) -> None:
    for _ in range(3):
        with tiny.trace(
            [PROMPT, PROMPT[:2]], interventions={"layers.*.mlp": [iv.scale(0.5), lambda v: v * 2]}
        ) as trace:
            tiny.layers[1].attn.output[:, -1] += 1
            tiny.output.eval()
            fork = trace.fork()
        with pytest.raises(StaleWrite):
            trace.layers[0].output = 0
        fork.layers[0].output = 0
        trace.receipts()
        list(trace.activations.values())
        del fork, trace
    gc.collect()


def test_a_trace_keeps_its_model_alive(worded_path: object, no_leak: None) -> None:
    model = InterpretableModel(worded_path)
    with model.trace([1, 2, 3]) as trace:
        layers = model.layers
        value = layers[0].output
    del model, layers
    gc.collect()
    assert np.isfinite(np.asarray(trace.output)).all() and np.isfinite(np.asarray(value)).all()
