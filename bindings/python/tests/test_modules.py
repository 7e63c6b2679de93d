"""Modules of MLX as models: every value is compared with hooks written here, that know nothing of the package."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")

import mlxterp  # noqa: E402
from mlxterp import InterpretableModel, StaleWrite, StrictError, UnknownSiteError  # noqa: E402
from mlxterp import interventions as iv  # noqa: E402
from mlxterp.modules import ModuleModel  # noqa: E402


class Attention(nn.Module):
    """Gives its pattern beside its result, as many do."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))

    def __call__(self, x: Any, mask: Any = None) -> Any:
        scores = self.q(x) @ self.k(x).swapaxes(-1, -2) / x.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + mask
        pattern = mx.softmax(scores, axis=-1)
        return self.o(pattern @ self.v(x)), pattern


class Layer(nn.Module):
    def __init__(self, d: int, norm: Any) -> None:
        super().__init__()
        self.attn = Attention(d)
        self.norm = norm
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def __call__(self, x: Any, *, mask: Any = None) -> Any:
        out, _ = self.attn(self.norm(x), mask=mask)
        # In place, as careless code does: what was noted before must not change.
        out += x
        return out + self.mlp(self.norm(out))


class Toy(nn.Module):
    """Nested lists and dicts, a layer norm used everywhere, a child that knows its parent, outputs in a dict."""

    def __init__(self, d: int = 8, n: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, d)
        shared = nn.RMSNorm(d)
        self.layers = [Layer(d, shared) for _ in range(n)]
        self.heads = {"a": nn.Linear(d, 5), "b": [nn.Linear(d, 2)]}
        self.unused = nn.Linear(d, d)
        # As an item of the module it would send mlx.nn's own functions round in circles.
        vars(self.layers[0])["parent"] = self

    def __call__(self, ids: Any, mask: Any = None) -> Any:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, mask=mask)
        return {"logits": self.heads["a"](x), "more": (self.heads["b"][0](x), x)}


def recorded(module: Any, *args: Any, change: Any = None, **kwargs: Any) -> tuple[Any, dict[str, list[tuple[Any, Any, Any]]]]:
    """Every call of every module of a plain forward by name of the class's method: hooks that are no part of the package.

    `change` is {id of a module: function of its output}.
    """
    calls: dict[int, list[Any]] = {}
    classes = {type(m) for m in module.modules()} | {type(module)}
    before = {c: c.__call__ for c in classes}

    def hook(own: Any) -> Any:
        def call(self: Any, *a: Any, **k: Any) -> Any:
            out = own(self, *a, **k)
            if change and id(self) in change:
                out = change[id(self)](out)
            kept = out + 0 if isinstance(out, mx.array) else out
            calls.setdefault(id(self), []).append((a, k, kept))
            return out

        return call

    own = {c: c.__dict__.get("__call__") for c in classes}
    for c in classes:
        c.__call__ = hook(before[c])
    try:
        return module(*args, **kwargs), calls
    finally:
        for c in classes:
            if own[c] is None:
                del c.__call__
            else:
                c.__call__ = own[c]


def equal(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(mx.array_equal(a, b).item())


@pytest.fixture
def toy() -> Any:
    mx.random.seed(3)
    made = Toy()
    made.eval()
    return made


IDS = [[1, 5, 7, 2], [3, 3, 9, 0]]


def test_a_module_is_a_model(toy: Any) -> None:
    model = InterpretableModel(toy)
    assert isinstance(model, ModuleModel) and isinstance(model, InterpretableModel)
    names = {s.name for s in model.sites()}
    assert {"output", "input", "layers.2.mlp.layers.1.output", "heads.b.0.input", "layers.0.norm.output"} <= names
    # The norm is one module, reached first in layer 0; the parent of layer 0 is the model itself.
    assert "layers.1.norm.output" not in names
    assert model.sites("layers.1.norm")[0].name == "layers.0.norm.output"
    assert model.sites("layers.0.parent.embed")[0].name == "embed.output"
    assert [s.name for s in model.sites("layers.*.attn")] == [f"layers.{i}.attn.output" for i in range(3)]
    assert model.sites("layers.-1.mlp")[0].name == "layers.2.mlp.output"
    assert model.num_layers == 3 and "Toy" in repr(model) and model.info["shared"]["layers.1.norm"] == "layers.0.norm"
    with pytest.raises(UnknownSiteError, match="did you mean 'layers.0.attn"):
        model.sites("layers.0.atn.output")
    with pytest.raises(UnknownSiteError, match="matches no module"):
        model.sites("layer.*.attn")


def test_every_value_is_that_of_a_plain_forward(toy: Any) -> None:
    ids, mask = mx.array(IDS), nn.MultiHeadAttention.create_additive_causal_mask(4)
    plain, calls = recorded(toy, ids, mask=mask)
    model = InterpretableModel(toy)
    tree = model._modules_tree
    with model.trace(ids, mask=mask) as trace:
        compared = 0
        # Last to first: the order of reads is the reader's own affair.
        for path, module in reversed(list(tree.modules.items())):
            for number, (args, kwargs, out) in enumerate(calls.get(id(module), [])):
                base, at = (f"{path}." if path else ""), f"#{number}" if number else ""
                assert equal(trace[f"{base}input{at}"], args[0])
                for k, v in kwargs.items():
                    if v is not None:
                        assert equal(trace[f"{base}input.{k}{at}"], v)
                if isinstance(out, mx.array):
                    assert equal(trace[f"{base}output{at}"], out), path
                    compared += 1
        assert compared > 30
        assert len(calls[id(toy.layers[0].norm)]) == 6
        assert equal(trace["layers.0.norm.output#5"], calls[id(toy.layers[0].norm)][5][2])
        attn = trace["layers.1.attn.output"]
        assert isinstance(attn, tuple) and equal(attn[1], trace["layers.1.attn.output.1"])
        result = trace.result
        assert equal(result["logits"], plain["logits"]) and equal(result["more"][1], plain["more"][1])
        assert equal(trace["output.more.0"], plain["more"][0])
    with pytest.raises(UnknownSiteError, match="was not called"):
        trace["unused.output"]
    with pytest.raises(UnknownSiteError, match="called 6 times"):
        trace["layers.0.norm.output#6"]
    with pytest.raises(UnknownSiteError, match="it has logits, more.0, more.1"):
        trace["output.logit"]


def test_text_goes_through_a_tokenizer(toy: Any) -> None:
    class Letters:
        def encode(self, text: str) -> list[int]:
            return [ord(c) - ord("a") for c in text]

    model = InterpretableModel(toy, tokenizer=Letters())
    assert equal(model.trace("badge")["output.logits"], toy(mx.array([[1, 0, 3, 6, 4]]))["logits"])
    with pytest.raises(TypeError, match="brings its own"):
        InterpretableModel("somewhere", tokenizer=Letters())


def test_names_are_attributes_inside_a_block(toy: Any) -> None:
    model = InterpretableModel(toy)
    ids = mx.array(IDS)
    _, calls = recorded(toy, ids)
    with model.trace(ids) as trace:
        h = model.layers[1].mlp.output
        assert isinstance(h, mx.array) and equal(h, calls[id(toy.layers[1].mlp)][0][2])
        assert equal(trace.layers[-1].output, calls[id(toy.layers[2])][0][2])
        assert equal(model.heads["b"][0].output, calls[id(toy.heads["b"][0])][0][2])
        assert equal(model.embed.input, ids)
        assert mx.exp(h).shape == h.shape
    with pytest.raises(mlxterp.OutsideTraceError):
        model.layers[1].mlp.output  # noqa: B018


def test_nothing_is_computed_before_somebody_looks(toy: Any) -> None:
    model = InterpretableModel(toy)
    trace = model.trace(mx.array(IDS))
    assert trace["layers.2.output"].shape == (2, 4, 8)
    before = mx.get_active_memory()
    big = InterpretableModel(nn.Linear(1, 4096)).trace(mx.ones((4096, 1)))
    for _ in range(8):
        assert big["output"].shape == (4096, 4096)
    assert mx.get_active_memory() - before < 64 * 2**20


def test_a_write_is_seen_by_everything_after_it(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    doubled, calls = recorded(toy, ids, change={id(toy.layers[1].mlp): lambda out: out * 2})
    with model.trace(ids) as trace:
        before = trace.layers[0].output
        model.layers[1].mlp.output = model.layers[1].mlp.output * 2
        assert equal(trace["output.logits"], doubled["logits"])
        assert equal(trace["layers.2.attn.o.output"], calls[id(toy.layers[2].attn.o)][0][2])
        assert equal(before, calls[id(toy.layers[0])][0][2])
    with model.trace(ids) as trace:
        trace.layers[1].mlp.output *= 2
    assert equal(trace["output.logits"], doubled["logits"])

    def last(out: Any) -> Any:
        out = out + 0
        out[:, -1] = out[:, -1] + 1.0
        return out

    at_last, _ = recorded(toy, ids, change={id(toy.layers[0]): last})
    with model.trace(ids) as trace:
        held = trace.layers[0].output
        kept = mx.array(held)
        trace.layers[0].output[:, -1] += 1.0
        assert equal(held, kept)
    assert equal(trace["output.logits"], at_last["logits"])


def test_inputs_parts_and_whole_structures_are_written(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    plain, _ = recorded(toy, ids)
    with model.trace(ids) as trace:
        trace["layers.0.input"] = trace["layers.0.input"] * 0 + 1
        ones = trace.embed.output * 0 + 1
        assert not equal(trace["output.logits"], plain["logits"])
    assert equal(trace["layers.0.attn.output.0"], toy.layers[0].attn(toy.layers[0].norm(ones))[0])
    assert not equal(trace.embed.output, ones), "the module before it gave what it gave"

    def swapped(out: Any) -> Any:
        return out[0] * 0, out[1]

    zeroed, _ = recorded(toy, ids, change={id(toy.layers[1].attn): swapped})
    for how in ("part", "item", "whole", "intervention"):
        given = {"layers.1.attn.output.0": iv.zero_out} if how == "intervention" else None
        with model.trace(ids, interventions=given) as trace:
            if how == "part":
                trace["layers.1.attn.output.0"] = 0
            elif how == "item":
                trace.layers[1].attn.output[0] = mx.zeros((1,))
            elif how == "whole":
                trace.layers[1].attn.output = (mx.zeros((2, 4, 8)), None)
        assert equal(trace["output.logits"], zeroed["logits"]), how
    with model.trace(ids) as trace, pytest.raises(mlxterp.InvalidArgumentError, match="another structure"):
        trace.layers[1].attn.output = (mx.zeros((2, 4, 8)),)


def test_ids_may_be_written_and_the_callers_array_stays(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    other = mx.array([[4, 4, 4, 4], [3, 3, 9, 0]])
    with model.trace(ids) as trace:
        trace.input = other
        assert equal(trace["output.logits"], toy(other)["logits"])
    assert equal(ids, mx.array(IDS))


def test_a_write_behind_what_was_read_is_refused(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    with model.trace(ids) as trace:
        trace.layers[2].output  # noqa: B018
        with pytest.raises(StaleWrite, match=r"'layers.1.output' cannot be changed any more: 'layers.2"):
            trace.layers[1].output = 0
        # Beside it, not after it: q is computed before k and v, which know nothing of it.
        fork = trace.fork()
        fork.layers[1].attn.v.output  # noqa: B018
        fork.layers[1].attn.q.output = 0
        with pytest.raises(StaleWrite):
            fork["layers.0.norm.output#2"] = 0
        # Its own value may be read before it is changed.
        fork.layers[1].mlp.output  # noqa: B018
    again = model.trace(ids)
    again.layers[1].mlp.output  # noqa: B018
    again.layers[1].mlp.output = 0
    assert not equal(again["output.logits"], trace["output.logits"])


def test_interventions_up_front(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    half = {id(layer.mlp): lambda out: out * 0.5 for layer in toy.layers}
    halved, _ = recorded(toy, ids, change=half)
    with model.trace(ids, interventions={"layers.*.mlp": iv.scale(0.5)}, strict=True) as trace:
        logits = trace["output.logits"]
    assert equal(logits, halved["logits"])
    seen: list[str] = []

    def double(value: Any, event: Any) -> Any:
        seen.append(event.site)
        return value * 2

    both, _ = recorded(toy, ids, change={id(toy.layers[0]): lambda out: (out + 1) * 2})
    given = [("layers.0", lambda v: v + 1), ("layers.0", iv.custom(double))]
    with model.trace(ids, interventions=given) as trace:
        assert equal(trace["output.logits"], both["logits"])
        trace.layers[2].mlp.output
    assert equal(trace["output.logits"], both["logits"]), "and once more after the block"
    assert seen == ["layers.0.output"]
    chosen = iv.zero_out.neurons(1, -1).positions(-1).rows(0)

    def by_hand(out: Any) -> Any:
        out = out + 0
        out[0, -1, 1] = 0
        out[0, -1, -1] = 0
        return out

    part, _ = recorded(toy, ids, change={id(toy.layers[1]): by_hand})
    with model.trace(ids, interventions={"layers.1": chosen}) as trace:
        assert equal(trace["output.logits"], part["logits"])
    receipt = trace.receipts()[0]
    assert (receipt["site"], receipt["rows"], receipt["positions"]) == ("layers.1.output", [0], [3])
    clamped = iv.clamp(-0.1, 0.1).then(iv.add_vector([1.0] * 8, 2.0))
    expected, _ = recorded(toy, ids, change={id(toy.layers[1]): lambda out: mx.clip(out, -0.1, 0.1) + mx.ones(8) * 2.0})
    with model.trace(ids, interventions={"layers.1": clamped}) as trace:
        assert equal(trace["output.logits"], expected["logits"])
    noisy = [model.trace(ids, interventions={"layers.1": iv.noise(0.1, seed=s)})["layers.1.output"] for s in (1, 1, 2)]
    assert equal(noisy[0], noisy[1]) and not equal(noisy[0], noisy[2])
    from_text = iv.from_json('{"kind": "scale", "factor": 0.5, "positions": [-1]}')
    same = [model.trace(ids, interventions={"layers.1": i})["output.logits"] for i in (from_text, iv.scale(0.5).positions(-1))]
    assert equal(*same)


def test_a_module_called_several_times(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    norm = toy.layers[0].norm
    every, _ = recorded(toy, ids, change={id(norm): lambda out: out * 0.5})
    with model.trace(ids, interventions={"layers.0.norm.output#*": iv.scale(0.5)}, strict=True) as trace:
        assert equal(trace["output.logits"], every["logits"])
    assert len(trace.receipts()) == 6
    count = iter(range(6))
    third, _ = recorded(toy, ids, change={id(norm): lambda out: out * (0.5 if next(count) == 2 else 1.0)})
    with model.trace(ids) as trace:
        trace["layers.1.norm.output#2"] = trace["layers.1.norm.output#2"] * 0.5
    assert equal(trace["output.logits"], third["logits"])
    parts = model.trace(ids, interventions={"layers.*.attn.output.1#*": iv.zero_out})
    assert [r["site"] for r in parts.receipts()] == [f"layers.{i}.attn.output.1" for i in range(3)]


def test_mistakes_are_errors_before_anything_runs(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    for given, words in [
        ({"layers.*.mpl": iv.zero_out}, "matches no module"),
        ({"layers.9.mlp": iv.zero_out}, "no site 'layers.9.mlp'"),
        ({"unused": iv.zero_out}, "was not called"),
        ({"layers.0": iv.replace_with([1.0, 2.0, 3.0])}, "does not fit"),
        ({"layers.0": iv.zero_out.positions(7)}, "no position 7"),
        ({"layers.0": iv.zero_out.heads(0)}, "heads"),
    ]:
        with pytest.raises((UnknownSiteError, ValueError, NotImplementedError), match=words):
            model.trace(ids, interventions=given)
    trace = model.trace(ids)
    with pytest.raises(mlxterp.ShapeError, match=r"\(3,\) does not fit the site's shape \(2, 4, 8\)"):
        trace.layers[0].output = mx.zeros(3)
    with pytest.raises(IndexError):
        trace.layers[0].output[:, 4] = 0
    with pytest.raises(ValueError):
        trace.layers[0].output[:, -1] = mx.zeros(3)
    with pytest.raises(ZeroDivisionError) as caught:
        trace.layers[0].output = iv.custom(lambda v: 1 / 0)
    assert any("layers.0.output" in note for note in getattr(caught.value, "__notes__", ["layers.0.output"]))
    assert equal(trace["output.logits"], toy(ids)["logits"]), "none of it left anything behind"
    assert trace.receipts() == []


def test_strict_and_receipts(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    with pytest.raises(StrictError, match="'layers.2.output' .* reached nothing"), model.trace(ids, strict=True) as trace:
        trace.layers[2].output = 0
        trace.layers[1].output  # noqa: B018
    with pytest.raises(StrictError, match="changed nothing"), model.trace(ids, strict=True) as trace:
        trace.layers[1].output = trace.layers[1].output
    with model.trace(ids) as trace:
        trace.layers[0].output[0, 2] += 3.0
        trace["output.logits"]
    (receipt,) = trace.receipts()
    assert receipt["rows"] == [0] and receipt["positions"] == [2] and receipt["reached"]
    assert receipt["change_norm"] == pytest.approx(3.0 * 8**0.5, rel=1e-5)


def test_forks_share_what_was_built(toy: Any) -> None:
    calls: list[str] = []
    own = Layer.__call__

    class Counting(Layer):
        def __call__(self, x: Any, *, mask: Any = None) -> Any:
            calls.append("layer")
            return own(self, x, mask=mask)

    toy.layers = [Counting(8, toy.layers[0].norm) for _ in range(4)]
    model, ids = InterpretableModel(toy), mx.array(IDS)
    expected = [
        recorded(toy, ids, change={id(toy.layers[2].mlp): lambda out, k=k: out * k})[0]["logits"] for k in range(3)
    ]
    trace = model.trace(ids)
    trace.layers[1].output  # noqa: B018
    trace["layers.2.mlp.output"]
    made = [trace.fork() for _ in range(3)]
    for fork in made:
        # Which values depend on which is asked once for all forks.
        fork.layers[2].mlp.output = fork.layers[2].mlp.output * 1
    calls.clear()
    for k in range(3):
        fork = trace.fork()
        fork.layers[2].mlp.output = fork.layers[2].mlp.output * k
        assert equal(fork["output.logits"], expected[k])
        fork.layers[3].output  # noqa: B018
    # Layers 0 and 1 are taken over from the trace; 2 and 3 are called again, in each fork, after one look at the flow.
    assert calls.count("layer") <= 3 * (2 + 4)
    assert equal(trace["output.logits"], toy(ids)["logits"])


def test_late_reads_replay_once(toy: Any) -> None:
    runs: list[int] = []

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.after = nn.Linear(3, 3)

        def __call__(self, x: Any) -> Any:
            runs.append(1)
            return self.after(self.inner(x))

    module = Counted()
    with InterpretableModel(module).trace(mx.ones((2, 3))) as trace:
        out = trace.output
    assert len(runs) == 1
    assert equal(trace["inner.output"], module.inner(mx.ones((2, 3)))) and equal(trace["after.output"], out)
    assert len(runs) == 2
    runs.clear()
    with InterpretableModel(module).trace(mx.ones((2, 3)), keep="all") as trace:
        trace.output  # noqa: B018
    trace["inner.output"]
    assert len(runs) == 1


def test_several_calls_are_one_batch(toy: Any) -> None:
    model = InterpretableModel(toy)
    a, b = mx.array([[1, 5, 7, 2]]), mx.array([[3, 3, 9, 0], [4, 4, 4, 4]])
    with model.trace([mlxterp.call(a), mlxterp.call(b)], interventions={"layers.0": iv.scale(2.0).rows(0)}) as trace:
        first, rest = trace.of(0, "output.logits"), trace.of(1, "output.logits")
    assert mx.allclose(rest, toy(b)["logits"], atol=1e-6) and not mx.allclose(first, toy(a)["logits"], atol=1e-3)
    with pytest.raises(mlxterp.InvalidArgumentError, match="its shapes are"):
        model.trace([mlxterp.call(a), mlxterp.call(mx.array([[1, 2]]))])
    rows = model.trace(a).fork_rows(3)
    rows.layers[0].output[1] = 0
    logits = rows["output.logits"]
    assert logits.shape[0] == 3 and mx.allclose(logits[2], toy(a)["logits"][0], atol=1e-6)
    assert not mx.allclose(logits[1], logits[0], atol=1e-3)


def state(module: Any) -> Any:
    classes = {type(m): (type(m).__dict__.get("__call__"), type(m).__call__) for m in module.modules()}
    return [(m, type(m), dict(m), dict(vars(m))) for m in module.modules()], classes


def unchanged(module: Any, before: Any) -> bool:
    modules, classes = before
    same = all(
        type(m) is kind and m.keys() == items.keys() and all(m[k] is v for k, v in items.items()) and vars(m) == more
        for m, kind, items, more in modules
    )
    return same and {c: (c.__dict__.get("__call__"), c.__call__) for c in classes} == classes


def test_the_module_is_afterwards_what_it_was() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm(3)
            self.drop = nn.Dropout(0.5)
            self.count = mx.array(0.0)
            self.seen: list[int] = []
            self.log: dict[str, Any] = {}
            self.lin = nn.Linear(3, 3)

        def __call__(self, x: Any, fail: bool = False) -> Any:
            self.count += 1
            self.seen.append(1)
            self.log["x"] = x
            self.last = x
            if fail:
                raise RuntimeError("on purpose")
            return self.lin(self.drop(self.norm(x)))

    module = Stateful()
    before = state(module)
    values = {k: v.tolist() for k, v in nn.utils.tree_flatten(module.parameters())}
    model, x = InterpretableModel(module), mx.random.normal((6, 3))
    mx.random.seed(11)
    with model.trace(x) as trace:
        first = trace.drop.output
        trace["lin.output"] = 0
        assert equal(trace.drop.output, first), "random numbers are the same in every run of a trace"
        assert equal(trace.output, mx.zeros((6, 3)))
    after = mx.random.normal((3,))
    assert unchanged(module, before) and module.seen == [] and module.log == {} and not hasattr(module, "last")
    assert {k: v.tolist() for k, v in nn.utils.tree_flatten(module.parameters())} == values
    mx.random.seed(11)
    module.drop(x)
    assert equal(after, mx.random.normal((3,))), "the global state went on as after one call"
    with pytest.raises(RuntimeError, match="on purpose"):
        model.trace(x, fail=True).output  # noqa: B018
    assert unchanged(module, before)
    with pytest.raises(RuntimeError, match="on purpose"):
        model.trace(x, fail=True, interventions={"lin": iv.zero_out})
    assert unchanged(module, before)


def test_a_trace_is_of_the_module_as_it_was_when_it_began(toy: Any) -> None:
    ids = mx.array(IDS)
    before = toy(ids)["logits"]
    with InterpretableModel(toy).trace(ids) as trace:
        trace.embed.output  # noqa: B018
    # A training step, a layer taken out, a weight changed in place.
    toy.update({"heads": {"a": {"weight": toy.heads["a"].weight * 2}}})
    toy.layers = toy.layers[:1]
    toy.heads["a"].bias += 1
    after = toy(ids)["logits"]
    assert equal(trace["output.logits"], before)
    assert equal(toy(ids)["logits"], after) and len(toy.layers) == 1


def test_a_change_that_fails_leaves_earlier_ones_as_they_were(toy: Any) -> None:
    model, ids, seen = InterpretableModel(toy), mx.array(IDS), []

    def count(value: Any) -> Any:
        seen.append(1)
        return value * 2

    trace = model.trace(ids, interventions={"layers.2": count})
    expected = trace.fork()["output.logits"]

    def widen(value: Any) -> Any:
        raise ValueError("on purpose")

    for _ in range(2):
        with pytest.raises(ValueError, match="on purpose"):
            trace.intervene("layers.1", widen)
    assert equal(trace["output.logits"], expected) and len(trace.receipts()) == 1 and len(seen) == 1


def test_other_threads_and_other_instances_notice_nothing(toy: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self, wait: bool) -> None:
            super().__init__()
            self.lin, self.wait = nn.Linear(3, 3), wait

        def __call__(self, x: Any) -> Any:
            if self.wait:
                inside.set()
                go_on.wait(10)
            return self.lin(x)

    slow, other, x = Slow(True), Slow(False), mx.ones((1, 3))
    # MLX binds what is lazy to its thread: weights are made before another one uses them.
    mx.eval(slow.parameters(), other.parameters(), x)
    own = Slow.__call__
    found: list[Any] = []

    def trace() -> None:
        found.append(InterpretableModel(slow).trace(x)["lin.output"].tolist())

    worker = threading.Thread(target=trace)
    worker.start()
    assert inside.wait(10)
    # In the middle of the other thread's run: a plain call, and a trace of another instance of the same class.
    assert equal(other(x), other.lin(x))
    assert equal(InterpretableModel(other).trace(x)["lin.output"], other.lin(x))
    go_on.set()
    worker.join()
    assert found == [slow.lin(x).tolist()] and Slow.__call__ is own and "__call__" in Slow.__dict__


def test_a_function_may_run_other_traces_but_not_its_own(toy: Any) -> None:
    model, ids = InterpretableModel(toy), mx.array(IDS)
    other = model.trace(ids)

    def borrow(value: Any) -> Any:
        return other.layers[0].output * 2

    with model.trace(ids, interventions={"layers.0": borrow}) as trace:
        assert equal(trace.layers[0].output, other.layers[0].output * 2)
    held: list[Any] = []
    mine = model.trace(ids)
    held.append(mine)
    with pytest.raises(mlxterp.BusyError, match="must not use the trace"):
        mine.layers[0].output = iv.custom(lambda v: held[0]["layers.1.output"])
    assert equal(mine["output.logits"], toy(ids)["logits"])


def test_odd_signatures_and_results() -> None:
    @dataclass
    class Out:
        h: Any
        extra: Any = None

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(3, 3)

        def __call__(self, pair: Any, /, *rest: Any, scale: float = 1.0, **more: Any) -> Any:
            return Out(self.lin(pair[0]["x"]) * scale + sum(rest) + more["bias"], extra=[pair[1], "text", None])

    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def __call__(self, *, x: Any) -> Any:
            return self.odd(({"x": x}, x + 1), x, x, scale=2.0, bias=x * 3).h

    parent, x = Parent(), mx.array([[1.0, 2.0, 3.0]])
    model = InterpretableModel(parent)
    with model.trace(x=x) as trace:
        assert equal(trace["input"], x) and equal(trace["input.x"], x)
        assert equal(trace["odd.input.0.1"], x + 1) and equal(trace["odd.input.0.0.x"], x)
        assert equal(trace["odd.input.bias"], x * 3) and trace["odd.input.scale"] == 2.0
        out = trace["odd.output"]
        assert type(out) is Out and equal(trace["odd.output.extra.0"], x + 1) and out.extra[1] == "text"
        assert trace["odd.output.extra.2"] is None
        with pytest.raises(mlxterp.InvalidArgumentError, match="is no array"):
            trace["odd.input.scale"] = 3.0
    with model.trace(x=x) as trace:
        trace["odd.input.bias"] = 0
        assert equal(trace["output"], parent.odd.lin(x) * 2.0 + x + x)


def test_a_module_that_looks_at_its_values_is_treated_with_care() -> None:
    """Data that is looked at on the way hides what depends on it: then everything later counts as dependent."""

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def __call__(self, x: Any) -> Any:
            y = self.a(x)
            return self.b(y * 2 if float(y.sum().item()) > 0 else y)

    module, x = Looking(), mx.ones((1, 3))
    trace = InterpretableModel(module).trace(x)
    trace["b.output"]
    with pytest.raises(StaleWrite):
        trace["a.output"] = 1
    fork = trace.fork()
    fork["a.output"] = 1
    assert equal(fork.output, module.b(mx.full((1, 3), 2.0)))


def test_classes_that_call_their_parents_are_noted_once() -> None:
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(2, 2)

        def __call__(self, x: Any) -> Any:
            return self.lin(x)

    class Child(Base):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x) + 1

    class Heir(Child):
        pass

    module = nn.Sequential(Base(), Child(), Heir())
    x = mx.ones((1, 2))
    trace = InterpretableModel(module).trace(x)
    assert trace.sites("output") == [
        "layers.0.lin.output", "layers.0.output", "layers.1.lin.output", "layers.1.output", "layers.2.lin.output",
        "layers.2.output", "output",
    ]  # fmt: skip
    assert equal(trace.output, module(x)) and "__call__" not in Heir.__dict__


def test_arrays_of_both_packages_meet(toy: Any) -> None:
    import numpy as np

    model, ids = InterpretableModel(toy), mx.array(IDS)
    with model.trace(mlxterp.asarray(np.array(IDS))) as trace:
        trace.layers[0].output = mlxterp.asarray(np.zeros((8,), dtype=np.float32))
        assert equal(trace.layers[0].output, mx.zeros((2, 4, 8)))
    assert np.asarray(trace["layers.1.output"]).shape == (2, 4, 8)
    assert equal(model.forward(ids)["logits"], toy(ids)["logits"])
