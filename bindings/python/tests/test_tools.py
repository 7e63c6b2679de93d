"""Analyses by name, from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlxterp import HookError, InterpretableModel, InvalidArgumentError, gradients, metrics, tools

np = pytest.importorskip("numpy")

IDS = [1, 5, 9, 2]


def test_gradients_of_a_named_metric_and_of_a_function_are_equal(tiny: InterpretableModel, no_leak: None) -> None:
    named = gradients(tiny, IDS, ["embed", "layers.0.output"], metrics.logit_difference(3, 7))
    own = gradients(tiny, IDS, "embed", lambda t: t.output[:, -1, 3] - t.output[:, -1, 7])
    assert list(named) == ["metric", "gradient:embed.output", "value:embed.output", "gradient:layers.0.output", "value:layers.0.output"]
    a, b = (np.asarray(r["gradient:embed.output"]) for r in (named, own))
    assert a.shape == (1, 4, tiny.hidden_size)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(named["metric"]), np.asarray(own["metric"]), rtol=1e-5, atol=1e-6)


def test_a_model_is_named_inside_a_metric_and_its_own_error_comes_back(tiny: InterpretableModel, no_leak: None) -> None:
    def mine(trace: Any) -> Any:
        tiny.layers[0].mlp.output = tiny.layers[0].mlp.output * 0
        return tiny.output[:, -1, 3]

    assert np.asarray(gradients(tiny, IDS, "layers.0.mlp", mine)["gradient:layers.0.mlp.output"]).any() == np.False_

    def fails(trace: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gradients(tiny, IDS, "embed", fails)
    with pytest.raises((HookError, Exception), match="number"):
        gradients(tiny, IDS, "embed", lambda t: t.output)
    assert gradients(tiny, IDS, "embed", metrics.logit(3))["metric"].shape == (1,)


def test_a_result_prints_saves_and_draws(tiny: InterpretableModel, tmp_path: Path) -> None:
    found = gradients(tiny, IDS, "embed", metrics.probability(3))
    assert "embed" in str(found) and "<svg" in found.html or "<table" in found.html
    assert found.kind == "gradients" and found.data["gradient_norms"]["axes"][0]["name"] == "site"
    for suffix in ("html", "json", "txt"):
        found.save(tmp_path / f"a.{suffix}")
    assert json.loads((tmp_path / "a.json").read_text()) == found.data
    with pytest.raises(ValueError, match="saved as"):
        found.save(tmp_path / "a.png")
    with pytest.raises(KeyError, match="it has metric"):
        found["nothing"]


def test_mistakes_are_told(tiny: InterpretableModel) -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'gradients'"):
        tools.run(tiny, "gradient")
    with pytest.raises(InvalidArgumentError, match="unknown field `site`"):
        tools.run(tiny, "gradients", prompts=IDS, site="embed")
    with pytest.raises(InvalidArgumentError, match="takes no arrays"):
        tools.run(tiny, "gradients", arrays={"x": np.zeros(3, np.float32)})
    with pytest.raises(InvalidArgumentError, match="out of range"):
        gradients(tiny, IDS, "embed", metrics.logit(10**6))
    assert {t["name"] for t in tools.available()} >= {"gradients"}
