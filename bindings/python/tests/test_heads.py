"""Attention heads, from Python. What is computed is tested against transformers and NumPy in tests/attention.rs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlxterp import (
    InterpretableModel,
    InvalidArgumentError,
    attention_patterns,
    composition_scores,
    copying_scores,
    head_circuit,
    head_scores,
)
from mlxterp import interventions as iv

np = pytest.importorskip("numpy")

INDUCTION = Path(__file__).parents[3] / "tests" / "fixtures" / "induction"


@pytest.fixture(scope="module")
def induction() -> InterpretableModel:
    if not INDUCTION.exists():
        pytest.skip("the induction model is in the repository only")
    return InterpretableModel(str(INDUCTION))


def test_the_induction_circuit_is_found(induction: InterpretableModel) -> None:
    found = head_scores(induction, length=20, seed=2)
    scores = np.asarray(found["scores"])
    assert scores.shape == (5, 2, 8)
    assert np.unravel_index(scores[0].argmax(), (2, 8)) == (0, 6)
    assert np.unravel_index(scores[2].argmax(), (2, 8)) == (1, 6)
    ablated = head_scores(induction, seed=2, interventions={"layers.0.attn.z": iv.zero_out.heads(6)})
    assert np.asarray(ablated["scores"])[2, 1, 6] < 0.1
    composition = np.asarray(composition_scores(induction)["scores"])
    assert composition.shape == (3, 16, 16) and np.nanargmax(composition[1]) == 6 * 16 + 14
    assert np.asarray(copying_scores(induction, [1])["scores"])[0, 6] > 0.9


def test_factors_multiply_to_what_the_head_does(induction: InterpretableModel) -> None:
    found = head_circuit(induction, 0, 6)
    assert found.data["left_out"] == []
    prompt = " cat dog moon"
    with induction.trace(prompt) as trace:
        stream = np.asarray(trace["layers.0.input"])[0]
        scores = np.asarray(trace["layers.0.attn.scores"])[0, 6]
        result = np.asarray(trace["layers.0.attn.result"])[0, 6]
    pattern = np.asarray(attention_patterns(induction, prompt)["patterns"])[0, 6]
    qk = np.asarray(found["qk.a"]) @ np.asarray(found["qk.b"])
    ov = np.asarray(found["ov.a"]) @ np.asarray(found["ov.b"])
    mine = stream @ qk @ stream.T / 24**0.5
    seen = np.tril(np.ones_like(mine)) > 0
    np.testing.assert_allclose(mine[seen], scores[seen], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(pattern @ stream @ ov, result, rtol=1e-4, atol=1e-4)


def test_mistakes_are_told(induction: InterpretableModel) -> None:
    with pytest.raises(InvalidArgumentError, match="give one of the two"):
        head_scores(induction, " cat", seed=1)
    with pytest.raises(InvalidArgumentError, match="layer 7 is out of range"):
        attention_patterns(induction, " cat", [7])
    with pytest.raises(InvalidArgumentError, match="head 8 is out of range"):
        head_circuit(induction, 0, 8)
