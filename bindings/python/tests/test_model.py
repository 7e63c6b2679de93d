"""Models from Python: loading, numbers, tokens, nnterp's names, steering, many prompts."""

from __future__ import annotations

import gc
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY

import mlxterp
from mlxterp import InterpretableModel, _abi, batch_get_activations, errors, get_activations, run_prompts
from mlxterp import interventions as iv

PROMPT = [1, 5, 9, 2]


def test_numbers_and_tree(tiny: InterpretableModel) -> None:
    config = json.loads((TINY / "llama" / "config.json").read_text())
    assert tiny.num_layers == config["num_hidden_layers"] and tiny.num_heads == config["num_attention_heads"]
    assert tiny.hidden_size == config["hidden_size"] and tiny.vocab_size == config["vocab_size"]
    assert tiny.config["model_type"] == "llama" and tiny.dtype == "float32"
    tree = str(tiny)
    for word in ("q_proj: Linear", "2 layers, 4 heads", "embed_tokens", "float32"):
        assert word in tree
    assert tree.splitlines()[0] in tiny._repr_html_().replace("&#x27;", "'")
    assert repr(tiny).startswith("InterpretableModel(") and "2 layers" in repr(tiny)
    assert mlxterp.backend() in ("cpu", "metal", "cuda") and mlxterp.memory_used() > 0


def test_package_and_library_are_of_one_version() -> None:
    written = (ROOT / "bindings" / "python" / "pyproject.toml").read_text()
    assert f'version = "{mlxterp.__version__}"' in written
    assert all(hasattr(mlxterp, name) for name in mlxterp.__all__)
    assert set(errors.BY_STATUS) == set(_abi.STATUS) - {_abi.MLXTERP_STATUS_OK}


def test_tokens(worded: InterpretableModel) -> None:
    expected = json.loads((TINY / "tokenizer" / "expected.json").read_text())
    assert worded.has_tokenizer
    texts = ["hello world", "", "Grüße, 世界 🙂", " two  spaces\n"]
    for text in texts:
        ids = worded.encode(text, add_special_tokens=False)
        assert worded.decode(ids) == text
        assert worded.decode(np.array(ids, dtype=np.int64)) == text
    assert worded.encode_batch(texts) == [worded.encode(t) for t in texts]
    tokens = worded.to_str_tokens("hello world", add_special_tokens=False)
    assert "".join(tokens) == "hello world" and tokens == worded.to_str_tokens(
        np.array(worded.encode("hello world", False))
    )
    assert worded.token_to_str(mlxterp.asarray(worded.encode("a", False))[0]) == "a"
    long = "hello " * 1000
    assert worded.decode(worded.encode(long, False)) == long
    assert expected
    with pytest.raises(ValueError):
        worded.token_to_str(worded.vocab_size + 1000)
    with pytest.raises(ValueError):
        worded.decode([-1])


def test_special_tokens_are_the_tokenizers_own(worded: InterpretableModel) -> None:
    with_them, without = worded.encode("hello"), worded.encode("hello", add_special_tokens=False)
    assert with_them[-len(without) :] == without or without == with_them[: len(without)]
    assert worded.trace("hello").tokens == [with_them]
    assert worded.decode(with_them, skip_special_tokens=True) == "hello"


@pytest.mark.parametrize("bad, error, match", [
    ([], ValueError, "empty batch"),
    ([[]], ValueError, "empty"),
    ([1, 64], ValueError, "out of range"),
    ([1, -1], ValueError, "out of range"),
    ([1, 2**40], ValueError, "out of range"),
    ([[1], "two"], TypeError, "prompt 1 is a str"),
    ([1.5], TypeError, "float"),
    ([True], TypeError, "bool"),
    (list(range(60)) * 20, ValueError, "context"),
    (["text"], FileNotFoundError, "no tokenizer"),
    (3, TypeError, "iterable"),
], ids=lambda v: str(v)[:20])  # fmt: skip
def test_bad_prompts(tiny: InterpretableModel, bad: object, error: type, match: str, no_leak: None) -> None:
    with pytest.raises(error, match=match):
        tiny.trace(bad)
    assert tiny.trace(PROMPT).output.shape == (1, 4, 64)


def test_bad_text(worded: InterpretableModel) -> None:
    with pytest.raises(ValueError, match="NUL"):
        worded.trace("a\0b")
    with pytest.raises(ValueError, match="surrogates"):
        worded.encode("\ud800")
    with pytest.raises(TypeError, match="must be a str"):
        worded.encode(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NUL"):
        worded.trace([1]).write("layers.0\0", 0)


def test_paths_that_cannot_be_loaded(tmp_path: Path, no_leak: None) -> None:
    with pytest.raises(mlxterp.MlxterpError) as caught:
        InterpretableModel(tmp_path / "nowhere", offline=True)
    assert "nowhere" in str(caught.value) and any("test_model.py" in note for note in caught.value.__notes__)
    with pytest.raises(mlxterp.MlxterpError, match="it is empty"):
        InterpretableModel(tmp_path)
    with pytest.raises(ValueError, match="NUL"):
        InterpretableModel("a\0b")
    with pytest.raises(TypeError):
        InterpretableModel(None)  # type: ignore[arg-type]


def broken(tmp_path: Path, change: object) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(TINY / "llama", folder)
    change(folder)  # type: ignore[operator]
    return folder


def edit_config(**changes: object) -> object:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))

    return change


def edit_weights(function: object) -> object:
    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(function(file.read_bytes()))  # type: ignore[operator]

    return change


@pytest.mark.parametrize("change, error", [
    (edit_config(model_type="never_heard_of"), mlxterp.UnsupportedError),
    (edit_config(num_hidden_layers="gone"), mlxterp.ConfigError),
    (edit_config(num_hidden_layers=-3), mlxterp.ConfigError),
    (edit_weights(lambda b: b[: len(b) // 2]), mlxterp.CorruptFileError),
    (edit_weights(lambda b: struct.pack("<Q", 2**60) + b[8:]), mlxterp.CorruptFileError),
    (edit_weights(lambda b: b.replace(b"F32", b"F99", 1)), mlxterp.MlxterpError),
    (edit_weights(lambda b: b[:100]), mlxterp.CorruptFileError),
], ids=["type", "missing", "absurd", "cut", "header length", "dtype", "cut header"])  # fmt: skip
def test_broken_checkpoints(tmp_path: Path, change: object, error: type, no_leak: None) -> None:
    with pytest.raises(error):
        InterpretableModel(broken(tmp_path, change))


def test_loading_options(tmp_path: Path, no_leak: None) -> None:
    half = InterpretableModel(TINY / "llama", dtype="bfloat16")
    assert half.dtype == "bfloat16" and half.trace(PROMPT).output.dtype == "bfloat16"
    assert InterpretableModel(str(TINY / "llama"), dtype=np.float16).dtype == "float16"
    packed = InterpretableModel(TINY / "llama_4bit_g32", keep_quantised=True)
    unpacked = InterpretableModel(TINY / "llama_4bit_g32", keep_quantised=False)
    assert packed.info["bytes"] < unpacked.info["bytes"]
    np.testing.assert_allclose(packed.forward(PROMPT), unpacked.forward(PROMPT), rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="no dtype 'float7'"):
        InterpretableModel(TINY / "llama", dtype="float7")
    named = InterpretableModel(TINY / "llama", arch="llama")
    np.testing.assert_array_equal(named.forward(PROMPT), InterpretableModel(TINY / "llama").forward(PROMPT))
    with pytest.raises(mlxterp.DescriptionError):
        InterpretableModel(TINY / "llama", arch="this is\nno description {")
    del half, packed, unpacked, named
    gc.collect()


def test_progress(no_leak: None) -> None:
    told: list[tuple[str, int, int]] = []
    InterpretableModel(TINY / "llama", progress=lambda *a: told.append(a))
    assert told and told[-1][0] == "load" and told[-1][1] == told[-1][2] > 0
    assert [t[1] for t in told] == sorted(t[1] for t in told)

    class Bar:
        made: list[Bar] = []

        def __init__(self, total: int, desc: str, unit: str, unit_scale: bool) -> None:
            self.total, self.desc, self.n, self.closed = total, desc, 0, False
            self.made.append(self)

        def update(self, n: int) -> None:
            self.n += n

        def close(self) -> None:
            self.closed = True

    InterpretableModel(TINY / "llama", progress=Bar)
    assert [(b.desc, b.closed, b.n == b.total) for b in Bar.made] == [("load", True, True)]

    def fail(*a: object) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        InterpretableModel(TINY / "llama", progress=fail)
    with pytest.raises(mlxterp.MlxterpError, match="cancel"):
        InterpretableModel(TINY / "llama", progress=lambda *a: False)
    with pytest.raises(TypeError, match="progress must be"):
        InterpretableModel(TINY / "llama", progress=3)


def test_nnterps_names(tiny: InterpretableModel) -> None:
    with tiny.trace(PROMPT) as trace:
        for accessor, site in {
            "layers_input": "input", "layers_output": "output", "attentions_input": "attn.input",
            "attentions_output": "attn.output", "mlps_input": "mlp.input", "mlps_output": "mlp.output",
            "attention_probabilities": "attn.pattern",
        }.items():  # fmt: skip
            values = getattr(tiny, accessor)
            assert len(values) == 2 and len(list(values)) == 2 and len(values[:1]) == 1
            np.testing.assert_array_equal(values[-1], trace.read(f"layers.1.{site}"))
        np.testing.assert_array_equal(tiny.token_embeddings, trace.read("embed"))
        np.testing.assert_array_equal(tiny.logits, trace.read("output"))
        np.testing.assert_allclose(np.asarray(tiny.attention_probabilities[0]).sum(-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(tiny.ln_final.output, trace.read("norm"))
        np.testing.assert_array_equal(tiny.unembed.output, trace.read("lm_head"))
        np.testing.assert_array_equal(tiny.embed_tokens.output, trace.read("embed"))
        assert tiny.attentions[1].path == "layers.1.attn" and tiny.mlps[0].path == "layers.0.mlp"
        assert tiny.input_ids.tolist() == [PROMPT] and tiny.input_size == (1, 4)
    with tiny.trace(PROMPT):
        tiny.mlps_output[0] = 0
        tiny.logits[:, -1] = 0
        assert not np.asarray(tiny.mlps_output[0]).any() and not np.asarray(tiny.logits[:, -1]).any()
    with tiny.trace(PROMPT):
        tiny.token_embeddings = tiny.token_embeddings * 2
        tiny.logits = tiny.logits * 0
        assert not np.asarray(tiny.output).any()


def test_steering_stays_on_until_taken_off(tiny: InterpretableModel, no_leak: None) -> None:
    vector = np.linspace(-2, 2, 24)
    plain = np.asarray(tiny.trace(PROMPT).output).copy()
    by_hand = np.asarray(tiny.trace(PROMPT, interventions={"layers.0": iv.add_vector(vector, 2)}).output).copy()
    handle = tiny.steer(layers=[0], vector=vector, strength=2.0)
    assert tiny.steering == [handle] and "layers.0" in repr(handle)
    np.testing.assert_array_equal(tiny.trace(PROMPT).output, by_hand)
    np.testing.assert_array_equal(tiny.forward(PROMPT), plain)
    handle.remove()
    handle.remove()
    np.testing.assert_array_equal(tiny.trace(PROMPT).output, plain)
    with tiny.steer(layers=-1, vector={-1: vector}, positions=-1, site="mlp"), tiny.steer(0, vector):
        assert len(tiny.steering) == 2
        steered = np.asarray(tiny.trace(PROMPT).output)
    assert abs(steered - plain).max() > 0.01 and not tiny.steering
    with pytest.raises(IndexError, match="no layer 9"):
        tiny.steer([9], vector)
    with pytest.raises(ValueError, match="no layers"):
        tiny.steer([], vector)
    with tiny.steer(0, np.ones(5)), pytest.raises(mlxterp.ShapeError):
        tiny.trace(PROMPT)
    del handle, steered


def test_activations_of_many_prompts(tiny: InterpretableModel, no_leak: None) -> None:
    prompts = [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    one = get_activations(tiny, prompts=prompts, layers=[0, -1], positions=-1)
    assert list(one) == ["layer_0", "layer_-1"] and one["layer_0"].shape == (3, 24)
    for row, prompt in enumerate(prompts):
        solo = np.asarray(tiny.trace(prompt).read("layers.0.output"))[0, -1]
        np.testing.assert_allclose(one["layer_0"][row], solo, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(one[0], one["layers.0.output"])
    counted = get_activations(tiny, prompts, layers=np.arange(2), positions=np.int64(-1))
    np.testing.assert_array_equal(counted["layer_0"], one["layer_0"])
    several = get_activations(tiny, prompts, layers=1, positions=np.array([0, -1]))
    assert several["layer_1"].shape == (3, 2, 24)
    everything = get_activations(tiny, prompts, positions=None, sites=("attn", "mlp.act"))
    assert list(everything) == [f"layers.{i}.{s}" for i in range(2) for s in ("attn", "mlp.act")]
    assert everything["layers.0.attn"].shape == (3, 4, 24)
    changed = get_activations(tiny, [1, 2, 3], interventions={"layers.0": iv.zero_out})
    assert not np.asarray(changed["layer_0"]).any() and changed["layer_0"].shape == (1, 24)
    small = batch_get_activations(tiny, prompts, layers=[0, -1], batch_size=2)
    np.testing.assert_allclose(small["layer_0"], one["layer_0"], rtol=1e-4, atol=1e-4)
    logits = run_prompts(tiny, prompts, batch_size=2)
    assert [r.shape for r in logits] == [(4, 64), (2, 64), (3, 64)]
    np.testing.assert_allclose(logits[1], tiny.forward(prompts[1])[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(KeyError, match="no activation .5.*layer_0"):
        one[5]
    with pytest.raises(IndexError, match="no position -3 in prompt 1"):
        get_activations(tiny, prompts, positions=-3)
    with pytest.raises(IndexError, match="no layer 2"):
        get_activations(tiny, prompts, layers=[2])
    for function in (batch_get_activations, run_prompts):
        with pytest.raises(ValueError, match="batch_size 0"):
            function(tiny, prompts, batch_size=0)  # type: ignore[operator]
        with pytest.raises(ValueError, match="empty batch"):
            function(tiny, [])  # type: ignore[operator]


def test_models_let_go_of_everything(worded_path: Path, no_leak: None) -> None:
    model = InterpretableModel(worded_path)
    with model.steer(0, np.ones(model.hidden_size)), model.trace("hello") as trace:
        model.layers[0].output.eval()
    str(model), model.info, model.config, model.sites(), list(trace.activations)
    del model, trace
    gc.collect()
