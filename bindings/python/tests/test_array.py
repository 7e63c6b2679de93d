"""Arrays: numpy's manners, laziness, and sharing memory instead of copying."""

from __future__ import annotations

import array as python_array
import copy
import gc
import pickle

import numpy as np
import pytest

import mlxterp
from mlxterp import Array, InterpretableModel, asarray, from_dlpack, from_numpy

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7 - 1


def same(made: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(made), expected, rtol=1e-6, atol=1e-7)


def address(view: np.ndarray) -> int:
    return int(view.__array_interface__["data"][0])


def test_a_numpy_view_shares_the_memory_of_mlx(no_leak: None) -> None:
    made = asarray(X) * 2
    view = np.asarray(made)
    assert address(view) == made.data_address == address(made.numpy())
    assert not view.flags.writeable
    del made
    gc.collect()
    same(view, X * 2)  # the view keeps the memory alive
    del view


def test_strided_views_share_too() -> None:
    made = asarray(X).eval()
    for part, expected in ((made.transpose(2, 0, 1), X.transpose(2, 0, 1)), (made[:, 1:, ::2], X[:, 1:, ::2])):
        view = np.asarray(part)
        assert part.data_address == address(view)
        assert part.strides == view.strides
        same(view, expected)
    assert made.data_address <= made[:, 1:].data_address < made.data_address + made.nbytes


def test_from_numpy_keeps_its_owner_exactly_as_long_as_needed(no_leak: None) -> None:
    class Owner(np.ndarray):
        pass

    source = np.arange(1000, dtype=np.float32).view(Owner)
    died: list[int] = []
    import weakref

    weakref.finalize(source, died.append, 1)
    made = from_numpy(source)
    where = address(source)
    del source
    gc.collect()
    shared = mlxterp._library.lib.mlxterp_array_is_shared(made.eval()._handle, where)
    assert shared == (made.data_address == where)
    assert bool(died) != shared  # kept while shared, let go of at once when MLX had to copy
    assert made.sum().item() == 499500
    del made
    gc.collect()
    assert died


def test_a_captured_value_never_changes_with_its_source(tiny: InterpretableModel) -> None:
    source = np.ones(24, dtype=np.float32)
    trace = tiny.trace([1, 2, 3])
    trace.layers[0].output = source
    source[:] = 99
    same(trace.layers[0].output[0, 0], np.ones(24))


def test_dlpack_out_shares_and_is_read_only(no_leak: None) -> None:
    made = (asarray(X) + 1).eval()
    view = np.from_dlpack(made)
    assert address(view) == made.data_address
    assert not view.flags.writeable
    capsule = made.__dlpack__(max_version=(1, 0))
    assert "dltensor_versioned" in repr(capsule)
    legacy = made.__dlpack__()
    assert '"dltensor"' in repr(legacy)
    copied = np.from_dlpack(made, copy=True)
    assert address(copied) != made.data_address
    same(copied, made)
    with pytest.raises(BufferError, match="device"):
        made.__dlpack__(dl_device=(2, 0))
    del made, view, capsule, legacy  # capsules that nobody took free what they hold


def test_dlpack_in(no_leak: None) -> None:
    made = from_dlpack(X.copy())
    same(made, X)
    same(from_dlpack(X.transpose(2, 1, 0)), X.transpose(2, 1, 0))
    with pytest.raises(TypeError, match="no DLPack capsule"):
        from_dlpack(type("Bad", (), {"__dlpack__": lambda self, **k: 3})())


@pytest.mark.parametrize(
    "name", "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 complex64".split()
)
def test_every_dtype_goes_there_and_back(name: str) -> None:
    source = np.array([[0, 1, 2], [3, 4, 5]]).astype(name)
    made = asarray(source)
    assert made.dtype == name and np.dtype(made.dtype) == source.dtype
    np.testing.assert_array_equal(np.asarray(made), source)
    if name != "complex64":
        assert made.tolist() == source.tolist()
    assert pickle.loads(pickle.dumps(made)).dtype == name


def test_bfloat16_goes_to_numpy_as_float32() -> None:
    made = asarray(X).astype("bfloat16")
    assert made.dtype == "bfloat16" and made.itemsize == 2
    assert np.asarray(made).dtype == np.float32
    np.testing.assert_allclose(np.asarray(made), X, rtol=1e-2)
    with pytest.raises(ValueError, match="copy"):
        made.__array__(copy=False)


def test_lists_numbers_and_buffers() -> None:
    assert asarray(3).dtype == "int32" and asarray(3.0).dtype == "float32" and asarray(True).dtype == "bool"
    assert asarray(2**40).item() == 2**40 and asarray([2**40, 1]).dtype == "int64"
    assert asarray([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert asarray([]).shape == (0,) and asarray([]).tolist() == []
    assert asarray(np.zeros((2, 0, 3), np.float32)).tolist() == [[], []]
    same(asarray(python_array.array("d", [1.5, 2.5])), [1.5, 2.5])
    same(asarray([asarray([1.0, 2.0]), np.array([3.0, 4.0], np.float32)]), [[1, 2], [3, 4]])
    with pytest.raises(mlxterp.ShapeError, match="different lengths"):
        asarray([[1], [2, 3]])
    with pytest.raises(TypeError, match="cannot make an array of a object"):
        asarray(object())


def test_operators_with_everything() -> None:
    a = asarray(X)
    b = X + 3
    for other in (b, asarray(b)):
        same(a + other, X + b)
        same(a - other, X - b)
        same(a * other, X * b)
        same(a / other, X / b)
        same(a % other, X % b)
        same(a // other, X // b)
        same(other - a, b - X)
        same(other / a.abs().maximum(0.5), b / np.maximum(abs(X), 0.5))
        assert np.array_equal(a < other, X < b)
    same(2 - a, 2 - X)
    same(1 / (a + 9), 1 / (X + 9))
    same(a**2, X**2)
    same(-a, -X)
    same(a @ b.transpose(0, 2, 1), X @ b.transpose(0, 2, 1))
    same(b.transpose(0, 2, 1) @ a, b.transpose(0, 2, 1) @ X)
    assert type(b + a) is Array  # numpy leaves the work to the lazy side
    assert (a + np.ones(4)).dtype == "float32"  # numpy's default float64 does not spread
    assert (a == a).all() and not (a == a + 1).any() and (a != a + 1).all()
    with pytest.raises(TypeError):
        a + "text"


def test_numbers_keep_the_dtype() -> None:
    half = asarray(X).astype("bfloat16")
    for number in (2.5, 2, True, np.float32(2.5), np.int64(2), np.array(2.5)):
        assert (half * number).dtype == (number * half).dtype == "bfloat16"
        same(number * half, half * number)


def test_functions_and_reductions() -> None:
    a = asarray(X)
    for axis in (None, 0, -1, (0, 2), (1, 2)):
        for keep in (False, True):
            same(a.sum(axis, keepdims=keep), X.sum(axis, keepdims=keep))
            same(a.mean(axis, keepdims=keep), X.mean(axis, keepdims=keep))
            same(a.max(axis, keepdims=keep), X.max(axis, keepdims=keep))
            same(a.min(axis, keepdims=keep), X.min(axis, keepdims=keep))
            same(a.std(axis, keepdims=keep), X.std(axis, keepdims=keep))
    same(a.norm(), np.linalg.norm(X))
    same(a.logsumexp(-1), np.log(np.exp(X).sum(-1)))
    assert a.argmax().item() == X.argmax() and np.array_equal(a.argmax(-1), X.argmax(-1))
    same(a.exp(), np.exp(X))
    same(a.softmax(-1), np.exp(X) / np.exp(X).sum(-1, keepdims=True))
    same(a.softmax(1), np.exp(X) / np.exp(X).sum(1, keepdims=True))
    assert a.topk(2).tolist() == np.argsort(-X, -1)[..., :2].tolist()
    same(np.exp(a), np.exp(X))
    same(mlxterp.concatenate([a, X], axis=1), np.concatenate([X, X], 1))
    same(mlxterp.stack([a, X]), np.stack([X, X]))
    same(mlxterp.where(a > 0, a, 0.0), np.where(X > 0, X, 0))
    same(mlxterp.zeros_like(a), np.zeros_like(X))
    same(mlxterp.full((2, 2), 7), np.full((2, 2), 7))
    with pytest.raises(ValueError, match="axis 3"):
        a.sum(3)
    with pytest.raises(ValueError, match="axis 5"):
        a.sum((0, 5))


@pytest.mark.parametrize(
    "key",
    [0, -1, (0, 1), (slice(None), -1), (..., 0), (slice(1, None), slice(0, 2), slice(None, None, 2)), (None, 0), (..., None),
     [1, 0], (slice(None), [0, 2]), (..., [3, 0]), (0, [2, 1]), (slice(None), slice(None), [1, -1]), ()],
    ids=repr,
)  # fmt: skip
def test_subscripts_mean_what_numpy_means(key: object) -> None:
    same(asarray(X)[key], X[key])


def test_subscripts_that_cannot_be() -> None:
    a = asarray(X)
    for key in (5, (0, 0, 0, 0), (..., ...), (0, [9])):
        with pytest.raises(IndexError) as caught:
            a[key].eval()
        assert (
            isinstance(caught.value, (mlxterp.MlxterpError, ValueError))
            and "test_array.py" in caught.value.__notes__[0]
        )
    for key in ("x", 1.5, True, a > 0, ([0], [1])):
        with pytest.raises(TypeError):
            a[key]
    with pytest.raises(TypeError, match="immutable"):
        a[0] = 1
    expected = X.copy()
    expected[:, -1] = 5
    same(a.at((slice(None), -1), 5), expected)
    same(a, X)


def test_shapes() -> None:
    a = asarray(X)
    assert a.shape == (2, 3, 4) and a.ndim == 3 and a.size == 24 and a.nbytes == 96 and len(a) == 2
    same(a.reshape(6, -1), X.reshape(6, -1))
    same(a.reshape((4, 6)), X.reshape(4, 6))
    same(a.T, X.T)
    same(a.transpose(1, 0, 2), X.transpose(1, 0, 2))
    assert a[0:1].squeeze(0).shape == (3, 4) and a[None].squeeze().shape == (2, 3, 4)
    same(asarray([1.0, 2.0]).broadcast_to(3, 2), [[1, 2]] * 3)
    assert [row.shape for row in a] == [(3, 4)] * 2
    with pytest.raises(mlxterp.MlxterpError):
        a.reshape(5, 5)
    assert copy.copy(a) is a and copy.deepcopy(a) is a


def test_python_numbers() -> None:
    one = asarray([[2.5]])
    assert float(one) == 2.5 and int(one) == 2 and bool(one) and f"{one:.1f}" == "2.5" and one.item() == 2.5
    assert [10, 20, 30][asarray(1)] == 20
    with pytest.raises(TypeError):
        [1][asarray(0.0)]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(asarray([1, 2]))
    with pytest.raises(ValueError, match="2 elements"):
        asarray([1, 2]).item()
    with pytest.raises(TypeError):
        hash(one)


def test_nothing_is_computed_before_somebody_looks() -> None:
    a = asarray(X).exp() + 1
    assert not a.is_evaluated and a.shape == X.shape and a.dtype == "float32"
    assert not a.is_evaluated
    a.eval()
    assert a.is_evaluated
    b = a * 2
    mlxterp.evaluate(a, b)
    assert b.is_evaluated


def test_looks() -> None:
    assert repr(asarray([1, 2])) == "array([1, 2], shape=(2,), dtype=int32)"
    large = repr(asarray(np.zeros((50, 50), np.float32)))
    assert "..." in large and "shape=(50, 50)" in large and len(large) < 1500
    page = asarray(X)._repr_html_()
    assert "(2, 3, 4)" in page and "min · mean · max" in page and "<pre>" in page
    assert repr(asarray(1.5)) == "array(1.5, shape=(), dtype=float32)"
