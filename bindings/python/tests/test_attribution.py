"""Attribution and circuits, from Python. What they compute is tested against PyTorch in tests/attribution.rs and circuits.rs."""

from __future__ import annotations

from typing import Any

import pytest
from mlxterp import (
    InterpretableModel,
    InvalidArgumentError,
    acdc,
    attribution_patching,
    circuit,
    edge_attribution,
    integrated_gradients,
    metrics,
)

np = pytest.importorskip("numpy")

CLEAN, CORRUPT = [1, 5, 9, 2], [1, 5, 11, 2]
METRIC = metrics.logit_difference(3, 7)


def test_integrated_gradients_add_up(tiny: InterpretableModel, no_leak: None) -> None:
    with tiny.trace(CORRUPT) as trace:
        start = np.array(trace.embed.output)
    for baseline in (CORRUPT, start):
        found = integrated_gradients(tiny, CLEAN, METRIC, baseline=baseline, steps=100, chunk=50)
        whole = found.data["metric"][0] - found.data["baseline"][0]
        assert found["attributions"].shape == (1, 4, tiny.hidden_size)
        assert abs(whole) > 0.1 and np.asarray(found["attributions"]).sum() == pytest.approx(whole, abs=1e-3)
    assert integrated_gradients(tiny, CLEAN, METRIC, steps=2).data["baseline"] == [0.0]


def test_attribution_patching_takes_a_function(tiny: InterpretableModel, no_leak: None) -> None:
    named = attribution_patching(tiny, CLEAN, CORRUPT, METRIC, components=["head"])
    own = attribution_patching(
        tiny, CLEAN, CORRUPT, lambda t: t.output[:, -1, 3] - t.output[:, -1, 7], components=["head"]
    )
    assert list(named) == ["head"] and named["head"].shape[:2] == (1, 2)
    np.testing.assert_allclose(np.asarray(named["head"]), np.asarray(own["head"]), rtol=1e-4, atol=1e-6)

    def fails(trace: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        attribution_patching(tiny, CLEAN, CORRUPT, fails)
    with pytest.raises(InvalidArgumentError, match="4 tokens clean and 3 corrupt"):
        attribution_patching(tiny, CLEAN, CORRUPT[:3], METRIC)


def test_a_circuit_is_found_pruned_and_measured(tiny: InterpretableModel, no_leak: None) -> None:
    found = edge_attribution(tiny, CLEAN, CORRUPT, METRIC, method="exact", edges=60)
    assert found["scores"].shape == (len(found.data["senders"]), len(found.data["receivers"]))
    measured = circuit(tiny, found, CLEAN, CORRUPT, METRIC, largest=40)
    assert len(measured.data["circuit"]["edges"]) <= 40
    assert np.isfinite(measured.data["evaluation"]["faithfulness"]) and "<svg" in measured.html
    again = circuit(tiny, measured.data["circuit"], ablation="zero")
    assert again.data["evaluation"] is None and again.data["circuit"] == measured.data["circuit"]
    told: list[tuple[int, int]] = []
    kept = acdc(tiny, CLEAN, CORRUPT, threshold=1e-4, progress=lambda done, total: told.append((done, total)))
    assert 0 < len(kept.data["circuit"]["edges"]) < found.data["total_edges"] and told[-1][0] == told[-1][1]
