"""Together with mlx.core: its functions take our values, ours take its arrays."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import mlxterp
from mlxterp import Array, InterpretableModel, asarray, from_mlx
from mlxterp import interventions as iv

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
mlxterp._mlx.teach()  # as every trace does

PROMPT = [1, 5, 9, 2]
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7 - 1


@pytest.mark.parametrize("function", [
    lambda x: mx.zeros_like(x), lambda x: mx.exp(x), mx.array, lambda x: mx.softmax(x, axis=-1), lambda x: mx.add(x, x), lambda x: mx.sum(x, axis=1),
    lambda x: mx.matmul(x, mx.ones((4, 2))), lambda x: mx.concatenate([x, mx.ones((2, 3, 4))]), lambda x: mx.stack([x, x]),
    lambda x: mx.where(mx.array(True), x, 0), lambda x: mx.einsum("abc,abd->cd", x, x), lambda x: mx.reshape(x, (6, 4)),
    lambda x: mx.linalg.norm(x, axis=-1), lambda x: mx.fast.rms_norm(x, mx.ones((4,)), 1e-5), lambda x: mx.fft.rfft(x),
    lambda x: mx.ones((3, 4)) + x, lambda x: x + mx.ones((3, 4)), lambda x: mx.ones((5, 3)) @ x[0], lambda x: x @ mx.ones((4, 1)),
    lambda x: mx.ones((4,)) * x, lambda x: x / mx.full((4,), 2.0), lambda x: mx.grad(lambda v: (v * v).sum())(x),
    lambda x: mx.compile(lambda v: v * 2)(x), lambda x: mx.vmap(lambda v: v + 1)(x), lambda x: nn.gelu(x),
    lambda x: mx.topk(x, 2), lambda x: mx.take(x, mx.array([0, 2]), axis=2), lambda x: mx.random.categorical(x, key=mx.random.key(1)),
])  # fmt: skip
def test_functions_give_what_they_give_for_mlx_arrays(function: object) -> None:
    ours, theirs = function(asarray(X)), function(mx.array(X))  # type: ignore[operator]
    assert isinstance(ours, (mx.array, Array))
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=1e-6)


def test_layers_of_mlx_nn_take_our_values() -> None:
    layer = nn.Linear(4, 2)
    np.testing.assert_allclose(np.array(layer(asarray(X))), np.array(layer(mx.array(X))), rtol=1e-5)


def test_calls_that_fail_for_their_own_reasons_still_do() -> None:
    with pytest.raises(ValueError):
        mx.reshape(asarray(X), (5, 5))
    with pytest.raises(TypeError):
        mx.zeros_like("text")
    with pytest.raises(ValueError):
        mx.matmul(mx.ones((2, 3)), mx.ones((2, 3)))
    assert mx.zeros_like.__name__ == "zeros_like" and "shape" in mx.zeros_like.__doc__


@pytest.mark.parametrize(
    "name", "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 bfloat16 complex64".split()
)
def test_dtypes_go_there_and_back(name: str) -> None:
    theirs = mx.array([[0, 1, 2], [3, 4, 5]]).astype(getattr(mx, name.replace("bool", "bool_")))
    ours = from_mlx(theirs)
    assert ours.dtype == name
    back = mx.array(ours)
    assert back.dtype == theirs.dtype and mx.array_equal(back, theirs)
    assert asarray(X).astype(theirs.dtype).dtype == name


def test_views_are_the_same_bits() -> None:
    ours = asarray(X).astype("bfloat16")
    np.testing.assert_array_equal(ours.view("uint16"), np.array(mx.array(X).astype(mx.bfloat16).view(mx.uint16)))
    with pytest.raises(ValueError, match="use astype"):
        ours.view("float32")


def test_strided_empty_and_scalar_arrays(no_leak: None) -> None:
    for theirs in (mx.array(X).transpose(2, 0, 1), mx.array(X)[:, ::2], mx.zeros((2, 0, 3)), mx.array(3.5)):
        ours = from_mlx(theirs)
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(np.asarray(ours), np.array(theirs))
    for ours in (asarray(X).T, asarray(X)[:, 1], mlxterp.full((0, 2), 1), asarray(2.5)):
        np.testing.assert_array_equal(np.array(mx.array(ours)), np.asarray(ours))


def test_memory_is_shared_where_mlx_can(no_leak: None) -> None:
    theirs = mx.array(X) + 1
    mx.eval(theirs)
    ours = from_mlx(theirs).eval()
    there = np.asarray(theirs).__array_interface__["data"][0]
    shared = mlxterp._library.lib.mlxterp_array_is_shared(ours._handle, there)
    assert shared == (ours.data_address == there)
    if mlxterp.backend() != "cpu":  # the CPU backend copies whatever it imports
        assert shared
    del theirs
    gc.collect()
    np.testing.assert_array_equal(np.asarray(ours), X + 1)


def test_values_pass_into_mlx_and_back_inside_a_trace(tiny: InterpretableModel) -> None:
    with tiny.trace(PROMPT) as trace:
        tiny.layers[0].attn.output = mx.zeros_like(tiny.layers[0].attn.output)
        result = tiny.output.save()
    np.testing.assert_array_equal(result, tiny.trace(PROMPT, interventions={"layers.0.attn": iv.zero_out}).output)
    with tiny.trace(mx.array(PROMPT)) as trace:
        tiny.layers[0].output[:, -1] += mx.ones((24,))
        tiny.layers[1].mlp.output = mx.tanh(tiny.layers[1].mlp.output)
    assert trace.tokens == [PROMPT]
    assert mx.argmax(trace.output[0, -1]).item() == int(np.asarray(trace.output)[0, -1].argmax())
    plain = np.asarray(tiny.trace(PROMPT).read("layers.0")).copy()
    with tiny.steer(0, mx.ones((24,)), 2.0):
        np.testing.assert_allclose(tiny.trace(PROMPT).read("layers.0"), plain + 2, rtol=1e-5, atol=1e-6)


def test_hooks_may_use_mlx(tiny: InterpretableModel, no_leak: None) -> None:
    plain = np.asarray(tiny.trace(PROMPT).read("layers.0.mlp")).copy()
    for hook in (
        lambda v: mx.tanh(v),
        lambda v: mx.array(v) * 0.5 + mx.array(v) * 0.5 - mx.array(v) + mx.tanh(mx.array(v)),
    ):
        changed = tiny.trace(PROMPT, interventions={"layers.0.mlp": hook}).read("layers.0.mlp")
        np.testing.assert_allclose(changed, np.tanh(plain), rtol=1e-4, atol=1e-5)
    gc.collect()
