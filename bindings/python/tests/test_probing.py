"""Probes, alignment search and harvests from Python."""

from __future__ import annotations

from pathlib import Path

import mlxterp
import pytest
from mlxterp import InterpretableModel, ask_probes, das, harvest, open_harvest, probe, shards

np = pytest.importorskip("numpy")


def test_probes_of_texts_and_of_arrays(tiny: InterpretableModel, tmp_path: Path, no_leak: None) -> None:
    texts = [[i % 7, 3 + i % 5, 11 if i % 2 == 0 else 40] for i in range(24)]
    labels = [i % 2 == 0 for i in range(24)]
    file = tmp_path / "probes.safetensors"
    found = probe(tiny, texts, labels, positions=["last", 0], folds=2, save=file)
    assert found.data["scores"]["axes"][1]["labels"] == ["last", "0"]
    assert np.asarray(found["layers.1.output@last"]).shape == (tiny.hidden_size,)
    said = np.asarray(ask_probes(tiny, file, texts)["scores"])
    assert said.shape == (4, 24)
    states = np.asarray(tiny.trace(texts).last("layers.1.output"))
    one = probe(tiny, states, labels, kind="mass_mean", validation=0)
    difference = states[::2].mean(0) - states[1::2].mean(0)
    scale = states.std(0) ** 2
    np.testing.assert_allclose(np.asarray(one["weights"]), difference / scale, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="one label|labels for|needs at least two"):
        probe(tiny, texts, [1] * 24)
    del found, one


def test_alignment_search(tiny: InterpretableModel, no_leak: None) -> None:
    base, source = [[1, i] for i in range(8)], [[2, 9 + i] for i in range(8)]
    found = das(tiny, base, source, list(range(8)), "layers.0.output", dimensions=2, epochs=2)
    directions = np.asarray(found["directions"])
    np.testing.assert_allclose(directions.T @ directions, np.eye(2), atol=1e-5)
    assert len(found.data["losses"]) == 2 and found.data["validation"]["pairs"] == 2
    del found


def test_a_harvest_of_an_iterable_goes_on(tiny: InterpretableModel, tmp_path: Path, no_leak: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxterp import harvesting

    monkeypatch.setattr(harvesting, "PART", 8)
    documents = [[(i * k) % 64 for k in range(1, 2 + i % 9)] for i in range(30)]
    options = {"sites": ["layers.0.output"], "skip_special": False, "max_tokens": 4, "shard_vectors": 9, "batch_size": 2, "window": 2}
    whole = harvest(tiny, iter(documents), tmp_path / "whole", **options)
    assert whole.data["complete"] and whole.data["documents"] == 30

    calls = []

    def stop(done: int, total: int) -> bool:
        calls.append(done)
        return len(calls) < 3

    with pytest.raises(mlxterp.MlxterpError, match="cancelled"):
        harvest(tiny, iter(documents), tmp_path / "stopped", progress=stop, **options)
    assert not open_harvest(tiny, tmp_path / "stopped").data["complete"]
    harvest(tiny, iter(documents), tmp_path / "stopped", **options)
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "stopped").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name
    vectors = np.concatenate([np.asarray(s["layers.0.output"]) for s in shards(tiny, tmp_path / "whole")])
    assert len(vectors) == sum(map(len, documents))
    np.testing.assert_allclose(vectors[0], np.asarray(tiny.trace(documents[0])["layers.0.output"])[0, 0], atol=1e-4)
    del whole
