"""Mixtures of experts: the router, who was chosen, single experts."""

from __future__ import annotations

import pytest
from conftest import ROOT

import mlxterp


@pytest.fixture(scope="module")
def model() -> mlxterp.InterpretableModel:
    return mlxterp.InterpretableModel(ROOT / "tests" / "fixtures" / "experts")


def test_experts_are_numbered(model: mlxterp.InterpretableModel) -> None:
    with model.trace([[5, 6, 7, 8]]) as trace:
        mlp = trace.layers[1].mlp
        assert len(mlp.experts) == 4
        chosen = [e for token in mlp.experts.chosen.tolist()[0] for e in token]
        assert mlp.router.shape == (1, 4, 4)
        for e in range(4):
            if e in chosen:
                assert mlp.experts[e].output.shape == (chosen.count(e), 16)
                assert mlp.experts[e].act.shape == (chosen.count(e), 16)
        last = max(chosen)
        assert mlp.experts[last - 4].output.shape == mlp.experts[last].output.shape
    with pytest.raises(mlxterp.UnknownSiteError, match="4 experts"):
        with model.trace([[5, 6, 7, 8]]) as trace:
            _ = trace.layers[1].mlp.experts[4].output


def test_an_idle_expert_was_not_executed(model: mlxterp.InterpretableModel) -> None:
    with model.trace([[5]]) as trace:
        chosen = trace.layers[0].mlp.experts.chosen.tolist()[0][0]
        idle = next(e for e in range(4) if e not in chosen)
        with pytest.raises(mlxterp.NotExecutedError, match=f"routed to expert {idle}"):
            _ = trace.layers[0].mlp.experts[idle].output


def test_routing_and_experts_can_be_changed(model: mlxterp.InterpretableModel) -> None:
    with model.trace([[5, 6, 7, 8]]) as trace:
        trace.layers[0].mlp.experts.chosen = [[[3, 0]]]
        trace.layers[0].mlp.experts[3].output = 0.0
        assert trace.layers[0].mlp.experts.chosen.tolist() == [[[3, 0]] * 4]
        assert all(v == 0.0 for row in trace.layers[0].mlp.experts[3].output.tolist() for v in row)
        changed = trace.output.tolist()
    with model.trace([[5, 6, 7, 8]]) as trace:
        assert trace.output.tolist() != changed
