"""Interventions from Python: values, selectors, JSON, and Python functions as hooks."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
import pytest

import mlxterp
from mlxterp import InterpretableModel
from mlxterp import interventions as iv

PROMPT = [1, 5, 9, 2]
SITE = "layers.0.mlp"


def value(model: InterpretableModel, what: object, site: str = SITE, prompt: object = PROMPT) -> np.ndarray:
    return np.asarray(model.trace(prompt, interventions={site: what}).read(site)).copy()


@pytest.fixture
def plain(tiny: InterpretableModel) -> np.ndarray:
    return np.asarray(tiny.trace(PROMPT).read(SITE)).copy()


def test_each_kind_does_what_it_says(tiny: InterpretableModel, plain: np.ndarray) -> None:
    vector = np.arange(24.0)
    assert not value(tiny, iv.zero_out).any() and not value(tiny, iv.zero_out()).any()
    np.testing.assert_allclose(value(tiny, iv.scale(0.5)), plain * 0.5, rtol=1e-6)
    np.testing.assert_allclose(value(tiny, iv.add_vector(vector, 2)), plain + 2 * vector, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value(tiny, iv.replace_with(vector)), np.broadcast_to(vector, plain.shape))
    np.testing.assert_allclose(value(tiny, iv.clamp(-0.1, 0.2)), plain.clip(-0.1, 0.2), rtol=1e-6)
    np.testing.assert_allclose(value(tiny, iv.clamp(high=0)), plain.clip(max=0), rtol=1e-6)
    noisy = value(tiny, iv.noise(0.5, seed=7))
    np.testing.assert_array_equal(noisy, value(tiny, iv.noise(0.5, seed=7)))
    assert abs(noisy - value(tiny, iv.noise(0.5, seed=8))).max() > 0.1
    assert 0.3 < (noisy - plain).std() < 0.7
    both = iv.compose(iv.scale(2), iv.add_vector(vector))
    np.testing.assert_allclose(value(tiny, both), plain * 2 + vector, rtol=1e-5, atol=1e-5)
    for same in (iv.scale(2).then(iv.add_vector(vector)), iv.compose([iv.scale(2), iv.add_vector(vector)])):
        assert same == both
    np.testing.assert_array_equal(value(tiny, [iv.scale(2), iv.add_vector(vector)]), value(tiny, both))


def test_selectors(tiny: InterpretableModel, plain: np.ndarray) -> None:
    def where_zero(what: object, **more: object) -> np.ndarray:
        return value(tiny, what, **more) == 0

    assert np.argwhere(where_zero(iv.zero_out.positions(-1)).all(-1)).tolist() == [[0, 3]]
    assert np.argwhere(where_zero(iv.zero_out.positions(0, 2)).all(-1)).tolist() == [[0, 0], [0, 2]]
    assert np.argwhere(where_zero(iv.zero_out.positions([1])).all(-1)).tolist() == [[0, 1]]
    assert np.argwhere(where_zero(iv.zero_out.neurons(np.arange(3)))[0, 0]).ravel().tolist() == [0, 1, 2]
    batch = [PROMPT, PROMPT[:2]]
    assert np.argwhere(where_zero(iv.zero_out.rows(1), prompt=batch)[:, :2].all(-1)).tolist() == [[1, 0], [1, 1]]
    by_row = where_zero(iv.zero_out.positions([[0], [-1]]), prompt=batch).all(-1)
    assert by_row[0].tolist() == [True, False, False, False] and by_row[1, :2].tolist() == [False, True]
    heads = where_zero(iv.zero_out.heads(1, -1), site="layers.0.attn.z")
    assert heads.shape == (1, 4, 4, 12)  # [row, head, position, feature]
    assert np.argwhere(heads.all((0, 2, 3))).ravel().tolist() == [1, 3]


def test_they_are_values(no_leak: None) -> None:
    a = iv.add_vector(np.ones(3), 2).positions(-1)
    assert a == iv.add_vector([1.0, 1.0, 1.0], 2).positions([-1]) and a != iv.add_vector(np.ones(3), 3).positions(-1)
    assert hash(a) == hash(iv.add_vector(np.ones(3), 2).positions(-1))
    assert repr(iv.scale(0.5).positions(-1)) == "scale(0.5) positions=[-1]"
    assert repr(iv.zero_out) == "zero_out" and iv.zero_out == iv.zero_out()
    for made in (
        a,
        iv.zero_out.heads(0),
        iv.clamp(low=0),
        iv.noise(1, 5).rows(0),
        iv.compose(iv.scale(2), iv.zero_out),
    ):
        assert iv.from_json(made.to_json()) == made == pickle.loads(pickle.dumps(made))
        assert iv.Intervention.from_json(made.to_json()) == made
    assert iv.from_json("scale(0.5)") == iv.scale(0.5)
    assert iv.scale(1) != "scale(1)"
    with pytest.raises(mlxterp.UnsupportedError, match="no JSON form"):
        iv.custom(lambda v: v).to_json()


@pytest.mark.parametrize("bad", [
    lambda: iv.scale(float("nan")), lambda: iv.clamp(), lambda: iv.clamp(2, 1), lambda: iv.noise(-1, 0),
    lambda: iv.noise(1, -1), lambda: iv.from_json("{}"), lambda: iv.from_json('{"kind": "scale", "factr": 1}'),
], ids=range(7))  # fmt: skip
def test_mistakes_are_errors_before_anything_runs(tiny: InterpretableModel, bad: object) -> None:
    with pytest.raises(ValueError):
        tiny.trace(PROMPT, interventions={SITE: bad()})  # type: ignore[operator]


def test_names_and_shapes_are_checked_at_the_start(tiny: InterpretableModel, no_leak: None) -> None:
    for pattern in ("layers.9.mlp", "nothing", "layers.*.nothing"):
        with pytest.raises(mlxterp.UnknownSiteError, match="nothing|9"):
            tiny.trace(PROMPT, interventions={pattern: iv.zero_out})
    with pytest.raises(mlxterp.ShapeError, match="23"):
        tiny.trace(PROMPT, interventions={SITE: iv.add_vector(np.ones(23))})
    with pytest.raises(ValueError, match="no position .*4"):
        tiny.trace(PROMPT, interventions={SITE: iv.zero_out.positions(4)})
    with pytest.raises(ValueError, match="no head axis"):
        tiny.trace(PROMPT, interventions={SITE: iv.zero_out.heads(0)})
    with pytest.raises(TypeError, match="intervention must be"):
        tiny.trace(PROMPT, interventions={SITE: 3})
    with pytest.raises(TypeError, match="site or pattern"):
        tiny.trace(PROMPT, interventions=iv.zero_out)


def test_functions_get_and_give_arrays_of_any_kind(tiny: InterpretableModel, plain: np.ndarray, no_leak: None) -> None:
    seen: list[object] = []

    def watch(v: mlxterp.Array, event: iv.Event) -> None:
        seen.append((event.site, event.step, event.lengths, v.shape))

    np.testing.assert_array_equal(value(tiny, watch), plain)
    assert len(seen) == 1 and seen[0][1:] == (0, (4,), (1, 4, 24)) and "layers.0.mlp.output" in seen[0][0]
    np.testing.assert_allclose(value(tiny, lambda v: v * 3), plain * 3, rtol=1e-6)
    np.testing.assert_allclose(value(tiny, lambda v: np.tanh(v)), np.tanh(plain), rtol=1e-6)
    np.testing.assert_allclose(value(tiny, lambda v: 0.25), np.full_like(plain, 0.25))
    np.testing.assert_allclose(value(tiny, iv.custom(lambda v: v * 0, "gone").positions(0))[:, 0], 0)

    class Doubler:
        def __call__(self, v: mlxterp.Array) -> mlxterp.Array:
            return v + v

    assert "Doubler" in repr(iv.custom(Doubler()))


def test_a_function_lives_as_long_as_its_intervention(tiny: InterpretableModel) -> None:
    class Hook:
        def __call__(self, v: mlxterp.Array) -> mlxterp.Array:
            return v

    hook = Hook()
    alive = weakref.ref(hook)
    trace = tiny.trace(PROMPT, interventions={SITE: hook})
    del hook
    gc.collect()
    assert alive() is not None
    trace.output.eval()
    del trace
    gc.collect()
    assert alive() is None


class Boom(Exception):
    pass


def boom(v: object) -> object:
    raise Boom("my own error")


@pytest.mark.parametrize(
    "what", [boom, iv.custom(boom, "boomer"), iv.compose(iv.scale(1), boom)], ids=["f", "custom", "compose"]
)
def test_a_function_that_raises_raises_itself(tiny: InterpretableModel, what: object, no_leak: None) -> None:
    def run() -> None:
        tiny.trace(PROMPT, interventions={SITE: what})

    with pytest.raises(Boom, match="my own error") as caught:
        run()
    notes = "".join(getattr(caught.value, "__notes__", []))
    assert "layers.0.mlp.output" in notes and "test_interventions.py" in notes
    assert any(frame.name == "boom" for frame in caught.traceback)
    del caught
    with tiny.trace(PROMPT) as trace:  # the trace and the model go on
        with pytest.raises(Boom):
            trace.intervene(SITE, boom)
        assert np.isfinite(np.asarray(tiny.output)).all()
    np.testing.assert_array_equal(trace.output, tiny.forward(PROMPT))


def test_a_function_that_raises_when_it_is_run_again_raises_itself_there(
    tiny: InterpretableModel, no_leak: None
) -> None:
    calls: list[int] = []

    def twice(v: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Boom("the second time")

    trace = tiny.trace(PROMPT, interventions={"layers.1.mlp": twice})
    with pytest.raises(Boom, match="the second time") as caught:
        trace.layers[0].mlp.output = 0  # what depends on it is made anew, now or at the read
        trace.output.eval()
    assert "twice" in "".join(caught.value.__notes__)
    del caught, trace


def test_interrupts_and_bad_results(tiny: InterpretableModel) -> None:
    def interrupt(v: object) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.trace(PROMPT, interventions={SITE: interrupt})
    with pytest.raises(TypeError, match="cannot make an array"):
        tiny.trace(PROMPT, interventions={SITE: lambda v: object()})
    with pytest.raises(mlxterp.ShapeError):
        tiny.trace(PROMPT, interventions={SITE: lambda v: np.ones((7, 7))})


def test_a_hook_must_not_use_its_own_run_but_may_use_others(tiny: InterpretableModel) -> None:
    trace = tiny.trace(PROMPT)
    with pytest.raises(mlxterp.BusyError, match="hook"):
        trace.intervene(SITE, lambda v: trace.read("output"))
    trace.intervene(SITE, lambda v: tiny.trace(PROMPT).read(SITE) * 2)
    np.testing.assert_allclose(trace.read(SITE), np.asarray(tiny.trace(PROMPT).read(SITE)) * 2, rtol=1e-6)
