"""Models of the user's own: descriptions with arrays, arrays as input, Python functions as modules."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY

import mlxterp
from mlxterp import InterpretableModel
from mlxterp import interventions as iv

MLP = """
arch mlp

Main(x):
  h = relu(up(x))
  return down(h)
"""

ROUTED = """
arch routed

Main(x):
  layers[2]: Layer
  for layer in layers:
    x = layer(x)
  return x

Layer(x):
  router: opaque(outputs=2)
  a, b = router(x, lin(x))
  return a + b
"""


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


WEIGHTS = {
    "up.weight": random(5, 3, seed=1), "up.bias": random(5, seed=2), "down.weight": random(2, 5, seed=3),
    "down.bias": random(2, seed=4),
}  # fmt: skip
NESTED = {
    "up": {"weight": WEIGHTS["up.weight"], "bias": WEIGHTS["up.bias"]},
    "down": {"weight": WEIGHTS["down.weight"], "bias": WEIGHTS["down.bias"]},
}


def by_hand(x: Any, keep: Any = 1.0) -> Any:
    hidden = np.maximum(x @ WEIGHTS["up.weight"].T + WEIGHTS["up.bias"], 0) * keep
    return hidden @ WEIGHTS["down.weight"].T + WEIGHTS["down.bias"]


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), atol=1e-6))


def test_a_plain_mlp_traces_like_any_model(no_leak: None) -> None:
    x = random(4, 3, seed=9)
    loud = int(np.argmax((x @ WEIGHTS["up.weight"].T + WEIGHTS["up.bias"]).max(axis=0)))
    for weights in (WEIGHTS, NESTED):
        model = InterpretableModel.from_weights(MLP, weights)
        assert model.inputs == ("x",) and model.name == "mlp" and "up" in str(model)
        assert close(model.forward(x), by_hand(x))
        with model.trace(x) as trace:
            hidden = model.h
            assert close(trace.x, x) and close(model.output, by_hand(x))
        assert hidden.shape == (4, 5)
        with model.trace(x) as trace:
            model.h[:, loud] = 0.0
        keep = np.where(np.arange(5) == loud, 0, 1)
        assert close(trace.output, by_hand(x, keep))
        with model.trace(x, interventions={"h": iv.zero_out.neurons(loud)}, strict=True) as trace:
            assert close(model.output, by_hand(x, keep))
        assert [s.name for s in model.plan(x)][0] == "x"
        assert model.trace({"x": x}).fork().output.shape == (4, 2)
        for wrong in ("text", {"y": x}):
            with pytest.raises(mlxterp.InvalidArgumentError, match="takes"):
                model.trace(wrong)
    # numpy makes float64 of everything.
    assert close(model.forward([[1.0, 2.0, 3.0]]), by_hand(np.array([[1.0, 2.0, 3.0]])))
    assert model.trace(x.astype(np.float64)).output.dtype == "float32"
    del model, trace, hidden


def test_a_transformer_from_arrays_is_the_one_from_files() -> None:
    loaded = InterpretableModel(TINY / "llama")
    file = TINY / "llama" / "model.safetensors"
    config = (TINY / "llama" / "config.json").read_text()
    from_file = InterpretableModel.from_weights("llama", file, config)
    from_directory = InterpretableModel.from_weights("llama", [TINY / "llama"], loaded.config)
    ids = [3, 7, 11]
    expected = np.asarray(loaded.forward(ids))
    for model in (from_file, from_directory):
        assert np.array_equal(np.asarray(model.forward(ids)), expected)
        assert np.array_equal(np.asarray(model.trace(ids).layers[1].attn.output), np.asarray(loaded.trace(ids).layers[1].attn.output))
    assert from_file.name == "llama"


def test_mistakes_name_what_is_wrong() -> None:
    with pytest.raises(mlxterp.NotFoundError, match="down"):
        InterpretableModel.from_weights(MLP, {k: v for k, v in WEIGHTS.items() if k != "down.weight"})
    with pytest.raises(mlxterp.UnsupportedError, match="'extra'"):
        InterpretableModel.from_weights(MLP, {**WEIGHTS, "extra": random(2)})
    with pytest.raises(TypeError, match="weight 'up.weight'"):
        InterpretableModel.from_weights(MLP, {**WEIGHTS, "up.weight": object()})
    with pytest.raises(TypeError, match="or a path"):
        InterpretableModel.from_weights(MLP, 3)
    with pytest.raises(mlxterp.ConfigError, match="not valid JSON"):
        InterpretableModel.from_weights(MLP, WEIGHTS, "{")
    with pytest.raises(mlxterp.DescriptionError, match="Main"):
        InterpretableModel.from_weights("arch nothing\n", WEIGHTS)


def test_configs_are_read_and_kept() -> None:
    text = "arch scaled\n\nMain(x):\n  return x * w * factor\n\n".replace("Main(x):\n", "Main(x):\n  w: param\n")
    model = InterpretableModel.from_weights(text, {"w": np.float32([2.0, 3.0])}, {"factor": 10})
    assert close(model.forward([[1.0, 1.0]]), [[20.0, 30.0]]) and model.config["factor"] == 10


def route(x: Any, y: Any) -> Any:
    return x + x, -y


def routed(function: Any, key: str = "router") -> InterpretableModel:
    weights = {f"layers.{i}.lin.weight": random(3, 3, seed=i) for i in range(2)}
    return InterpretableModel.from_weights(ROUTED, weights, opaque={key: function})


def routed_by_hand(x: Any) -> Any:
    for i in range(2):
        x = 2 * x - x @ random(3, 3, seed=i).T
    return x


def test_a_function_is_a_module(no_leak: None) -> None:
    x = random(2, 3, seed=5)
    model = routed(route)
    assert close(model.forward(x), routed_by_hand(x))
    with model.trace(x) as trace:
        assert close(model.layers[0].router.output, 2 * x)
        assert close(trace["layers.0.router.output.1"], -x @ random(3, 3, seed=0).T)
        assert close(trace["layers.0.router.input.1"], x @ random(3, 3, seed=0).T)
    with model.trace(x) as trace:
        trace["layers.0.router.output.1"] = 0
        trace.layers[1].router.output = trace.layers[1].router.output * 0
        assert close(trace.layers[0].output, 2 * x)
    kinds = {m["path"]: m["kind"] for m in model.info["modules"]}
    assert kinds["layers.0.router"] == "Opaque"
    del model, trace


def test_functions_may_use_numpy_and_give_one_value() -> None:
    text = "arch one\n\nMain(x):\n  norm: opaque\n  return norm(x)\n"
    model = InterpretableModel.from_weights(text, {}, opaque={"norm": lambda x: np.asarray(x) / np.linalg.norm(x)})
    x = random(2, 3, seed=5)
    assert close(model.forward(x), x / np.linalg.norm(x))


def test_what_goes_wrong_in_a_function_comes_out_as_itself(no_leak: None) -> None:
    x, how = random(2, 3, seed=5), "raise"

    def moody(a: Any, b: Any) -> Any:
        if how == "raise":
            raise ZeroDivisionError("on purpose")
        return {"none": None, "one": a, "three": (a, a, a), "object": (a, object()), "fine": (a, b)}[how]

    model = routed(moody)
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        model.forward(x)
    assert any("'layers.0.router'" in note for note in getattr(caught.value, "__notes__", ["'layers.0.router'"]))
    for how, error, words in [
        ("none", ValueError, "gave None, the description wants 2"), ("one", ValueError, "gave 1 values"),
        ("three", ValueError, "gave 3 values"), ("object", TypeError, "object"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            model.trace(x).output.eval()
    how = "fine"
    assert model.forward(x).shape == (2, 3)
    del caught, model


def test_a_function_that_runs_its_own_model_is_refused() -> None:
    x = random(2, 3, seed=5)
    model: Any = None

    def again(a: Any, b: Any) -> Any:
        return model.forward(a), b

    model = routed(again)
    with pytest.raises(mlxterp.BusyError, match="must not run the model that called it"):
        model.forward(x)


def test_functions_are_given_by_path_pattern_or_name_and_let_go() -> None:
    from mlxterp import _opaque

    gc.collect()
    before = len(_opaque._functions)
    routed(route, "layers.*.router")
    with pytest.raises(mlxterp.NotFoundError, match="'layers.0.router' .* has no function"):
        routed(route, "layers.1.router")
    with pytest.raises(mlxterp.NotFoundError, match="has no function"):
        InterpretableModel.from_weights(ROUTED, {f"layers.{i}.lin.weight": random(3, 3) for i in range(2)})
    with pytest.raises(TypeError, match=r"opaque\['router'\] must be a function"):
        routed(3)
    gc.collect()
    assert len(_opaque._functions) == before


def test_functions_run_on_any_thread() -> None:
    model, x, found = routed(route), random(2, 3, seed=5), []
    workers = [threading.Thread(target=lambda: found.append(np.asarray(model.forward(x)))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(close(f, routed_by_hand(x)) for f in found)


def test_weights_of_a_module_of_mlx(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    nn = pytest.importorskip("mlx.nn")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 5), nn.Linear(5, 2)

        def __call__(self, x: Any) -> Any:
            return self.down(nn.relu(self.up(x)))

    net = Net()
    x = mx.random.normal((4, 3))
    model = InterpretableModel.from_weights(MLP, net.parameters())
    assert close(model.forward(x), net(x))
    with model.trace(x):
        assert close(model.up.output, net.up(x))
    half = {k: v.astype(mx.bfloat16) for k, v in dict(_flat(net.parameters())).items()}
    exact = InterpretableModel.from_weights(MLP, half)
    assert exact.dtype == "bfloat16" and exact.forward(x.astype(mx.bfloat16)).dtype == "bfloat16"
    assert InterpretableModel.from_weights(MLP, half, dtype="float32").dtype == "float32"
    file = tmp_path / "net.safetensors"
    mx.save_safetensors(str(file), dict(_flat(net.parameters())))
    assert close(InterpretableModel.from_weights(MLP, file).forward(x), net(x))


def _flat(tree: Any) -> Any:
    return sys.modules["mlx.utils"].tree_flatten(tree)
