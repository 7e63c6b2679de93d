"""Steering vectors from Python: found, kept, put on a model."""

from __future__ import annotations

from pathlib import Path

import mlxterp
import pytest
from mlxterp import InterpretableModel, SteeringVectors, steering_vectors
from mlxterp import interventions as iv

np = pytest.importorskip("numpy")

PROMPT = [1, 5, 9, 2]
POSITIVE, NEGATIVE = [[1, 5], [7, 8, 30]], [[2, 8], [3, 3, 4]]


def output(model: InterpretableModel, **given: object) -> np.ndarray:
    return np.asarray(model.trace(PROMPT, **given).output).copy()


def test_vectors_are_found_and_steer(tiny: InterpretableModel, no_leak: None) -> None:
    vectors = steering_vectors(tiny, POSITIVE, NEGATIVE)
    assert list(vectors) == [0, 1] and vectors.method == "mean_difference" and vectors.position == "last"
    by_hand = np.asarray(tiny.trace(POSITIVE).last("layers.1.output")).mean(0)
    by_hand = by_hand - np.asarray(tiny.trace(NEGATIVE).last("layers.1.output")).mean(0)
    np.testing.assert_allclose(np.asarray(vectors[1]), by_hand, rtol=1e-4, atol=1e-5)
    wanted = output(tiny, interventions={"layers.1.output": iv.add_vector(vectors[1], 3.0)})
    with tiny.steer(vectors, layers=1, strength=3.0):
        np.testing.assert_array_equal(output(tiny), wanted)
    np.testing.assert_array_equal(output(tiny, interventions=vectors.interventions(3.0, layers=[1])), wanted)
    plain = output(tiny)
    np.testing.assert_array_equal(output(tiny, interventions=vectors.interventions(0.0)), plain)
    with tiny.steer(vectors, action="project_out", positions=-1):
        state = np.asarray(tiny.trace(PROMPT).last("layers.1.output"))[0]
    unit = by_hand / np.linalg.norm(by_hand)
    assert abs(state @ unit) < 1e-4
    with tiny.steer(vectors, action="set_component", value=2.0, layers=[1]):
        assert abs(np.asarray(tiny.trace(PROMPT)["layers.1.output"])[0] @ unit - 2.0).max() < 1e-4
    added = vectors.interventions(2.0, normalise="unit", layers=0)["layers.0.output"]
    assert added == iv.add_vector(vectors[0], 2.0 * vectors._factor(0, "unit"))
    assert "layer" in str(vectors) and "<div" in vectors._repr_html_() and vectors.separation(0) is not None
    del vectors, added, wanted


def test_files_come_back(tiny: InterpretableModel, tmp_path: Path, no_leak: None) -> None:
    vectors = steering_vectors(tiny, POSITIVE, NEGATIVE, method="pca_center", position="mean", layers=[-1])
    vectors.save(tmp_path / "v.safetensors")
    vectors.save(tmp_path / "v.gguf")
    for name in ("v.safetensors", "v.gguf"):
        back = SteeringVectors.load(tiny, tmp_path / name)
        assert list(back) == [1] and back.site == "output"
        np.testing.assert_array_equal(np.asarray(back[1]), np.asarray(vectors[1]))
    back = SteeringVectors.load(tiny, tmp_path / "v.safetensors")
    assert (back.method, back.position, back.separation(1)) == ("pca_center", "mean", vectors.separation(1))
    own = SteeringVectors.of(tiny, {0: np.ones(24), 1: np.zeros(24) + 0.5})
    np.testing.assert_array_equal(np.asarray(own[1]), np.full(24, 0.5, np.float32))
    with pytest.raises(ValueError, match="not known"):
        own.interventions(normalise="state")
    with pytest.raises(mlxterp.UnsupportedError, match="layer 0"):
        own.save(tmp_path / "own.gguf")
    with pytest.raises(mlxterp.ShapeError, match="width 5"):
        SteeringVectors.of(tiny, {0: np.ones(5)})
    del vectors, back, own


def test_mistakes(tiny: InterpretableModel, no_leak: None) -> None:
    with pytest.raises(ValueError, match="no positive texts"):
        steering_vectors(tiny, [], NEGATIVE)
    vectors = steering_vectors(tiny, POSITIVE, NEGATIVE, layers=[0])
    with pytest.raises(KeyError, match="layer 1"):
        vectors[1]
    with pytest.raises(ValueError, match="no action 'push'"):
        vectors.interventions(action="push")
    with pytest.raises(ValueError, match="no length 'long'"):
        vectors.interventions(normalise="long")
    with pytest.raises(ValueError, match="'output', not to its 'mlp'"):
        tiny.steer(vectors, site="mlp")
    with pytest.raises(TypeError, match="layers and a vector"):
        tiny.steer(layers=[0])
    with pytest.raises(TypeError, match="action"):
        tiny.steer(0, np.ones(24), action="add")
    assert not tiny.steering
    del vectors
