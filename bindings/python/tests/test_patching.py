"""Patching, from Python."""

from __future__ import annotations

from typing import Any

import pytest
from mlxterp import InterpretableModel, InvalidArgumentError, activation_patching, causal_tracing, metrics, path_patching

np = pytest.importorskip("numpy")

CLEAN, CORRUPT = [1, 5, 9, 2, 8, 30], [1, 7, 9, 2, 3, 30]
METRIC = metrics.logit_difference(3, 7)


def test_a_grid_is_what_writes_give(tiny: InterpretableModel, no_leak: None) -> None:
    found = activation_patching(tiny, CLEAN, CORRUPT, METRIC, component="z")
    assert [axis["name"] for axis in found.data["raw"]["axes"]] == ["layer", "head"]
    with tiny.trace(CLEAN) as trace:
        z = np.asarray(trace.layers[1].attn.z)
    with tiny.trace(CORRUPT) as trace:
        mixed = np.array(np.asarray(trace.layers[1].attn.z))
        mixed[:, 2] = z[:, 2]
    with tiny.trace(CORRUPT) as trace:
        trace.layers[1].attn.z = mixed
        logits = np.asarray(trace.output)[0, -1]
    assert abs(np.asarray(found["raw"])[1, 2] - (logits[3] - logits[7])) < 2e-5


def test_a_function_measures_and_its_error_comes_back(tiny: InterpretableModel, no_leak: None) -> None:
    own = activation_patching(tiny, CLEAN, CORRUPT, lambda t: t.output[:, -1, 3] - t.output[:, -1, 7])
    named = activation_patching(tiny, CLEAN, CORRUPT, METRIC)
    np.testing.assert_allclose(np.asarray(own["raw"]), np.asarray(named["raw"]), atol=2e-5)
    calls = []

    def fails(trace: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise KeyError("mine")
        return trace.output[:, -1, 3]

    with pytest.raises(KeyError, match="mine"):
        activation_patching(tiny, CLEAN, CORRUPT, fails)
    with pytest.raises(InvalidArgumentError, match="align"):
        activation_patching(tiny, CLEAN, CORRUPT[:-1], METRIC)
    aligned = activation_patching(tiny, CLEAN, CORRUPT[1:], METRIC, align=[[1, 0], [-1, -1]])
    assert aligned["raw"].shape == (2, 2)


def test_causal_traces_and_paths(tiny: InterpretableModel, no_leak: None) -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (3, 2, tiny.hidden_size)).astype(np.float32)
    found = causal_tracing(tiny, CLEAN, [1, 2], answer=3, noise=noise)
    assert found["restored"].shape == (2, 6) and found["restored_by_sample"].shape == (3, 2, 6)
    # All of the stream at the last layer is the clean run.
    assert np.asarray(found["restored"])[1, 5] == np.float32(found.data["clean"])
    assert causal_tracing(tiny, CLEAN, [1, 2], answer=3, noise=1.0, samples=2)["restored_by_sample"].shape[0] == 2
    paths = path_patching(tiny, CLEAN, CORRUPT, METRIC, receivers=[{"input": "k", "layer": 1, "head": 0}])
    values = np.asarray(paths["normalised"])
    assert values.shape == (2, 4) and (values[1] == 1).all() and (values[0] != 1).all()
