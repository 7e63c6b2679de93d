"""A tour of the package on the real model: with numpy alone, and with mlx.core imported before or after."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import mlxterp
from mlxterp import InterpretableModel

SNIPPET = """
from mlxterp import InterpretableModel, interventions as iv, get_activations
model = InterpretableModel(path)
with model.trace("The capital of France is") as trace:
    attn_3 = model.layers[3].attn.output.save()
    mlp_8 = model.layers[8].mlp.output.save()
    logits = model.output.save()
trace.activations["model.layers.3.self_attn.q_proj"]         # every module, lazily
activations = get_activations(model, prompts=["Hello world", "The capital"], layers=[3, 8, 12], positions=-1)
with model.trace("Text to analyze"):
    model.layers[4].attn.output = mx.zeros_like(model.layers[4].attn.output)
    result = model.output.save()
with model.trace("Clean input") as clean:
    clean_mlp = model.layers[8].mlp.output.save()
with model.trace("Corrupted input"):
    model.layers[8].mlp.output = clean_mlp
    patched_output = model.output.save()
with model.trace("Test", interventions={"layers.5.attn": iv.scale(0.5), "layers.*.mlp": iv.zero_out}) as t: ...
model.steer(layers=[5, 6, 7], vector=steering_vector, strength=2.0)      # and a way to take it off again; also as a context
"""

RUNS = {
    "numpy alone": "import sys; sys.modules['mlx'] = sys.modules['mlx.core'] = None; import numpy as mx",
    "mlx.core first": "import mlx.core as mx, mlxterp",
    "mlxterp first": "import mlxterp, mlx.core as mx",
}

REPORT = """
import json
import numpy as np
q = trace.activations["model.layers.3.self_attn.q_proj"]
steered = model.trace("Test").output
[handle] = model.steering
handle.remove()
print(json.dumps({
    "next": model.token_to_str(logits[0, -1].argmax()),
    "shapes": [list(v.shape) for v in (attn_3, mlp_8, logits, q, result, patched_output, t.output, *activations.values())],
    "sums": [float(np.abs(np.asarray(v)).sum()) for v in (attn_3, mlp_8, logits, q, result, patched_output, t.output, steered)],
}))
"""


def has_mlx() -> bool:
    """Whether MLX's Python package is there; its library alone makes a folder `mlx` too."""
    try:
        return importlib.util.find_spec("mlx.core") is not None
    except ModuleNotFoundError:
        return False


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    checkout = [] if "MLXTERP_TEST_INSTALLED" in os.environ else [str(ROOT / "bindings" / "python")]
    path = os.pathsep.join([*checkout, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


@pytest.fixture(scope="module")
def reports(smol_path: Path) -> dict[str, dict[str, object]]:
    made = {}
    for name, start in RUNS.items():
        if name != "numpy alone" and not has_mlx():
            continue
        values = f"path = {str(smol_path)!r}\nimport numpy\nsteering_vector = numpy.ones(576)\n"
        done = run(f"{start}\n{values}{SNIPPET}{REPORT}")
        assert done.returncode == 0, f"{name}: {done.stderr}"
        made[name] = json.loads(done.stdout)
    return made


def test_it_runs_as_written_everywhere_with_the_same_results(reports: dict[str, dict[str, object]]) -> None:
    first, *others = reports.values()
    assert first["next"] == " Paris"
    assert first["shapes"][:6] == [[1, 5, 576], [1, 5, 576], [1, 5, 49152], [1, 5, 576], [1, 3, 49152], [1, 3, 49152]]
    assert first["shapes"][7:] == [[2, 576]] * 3
    for other in others:
        assert other["next"] == first["next"] and other["shapes"] == first["shapes"]
        np.testing.assert_allclose(other["sums"], first["sums"], rtol=1e-4)


def test_prompts_of_other_lengths_are_aligned_with_a_warning(smol: InterpretableModel) -> None:
    with smol.trace("Clean input") as clean:
        value = smol.layers[8].mlp.output
    with smol.trace("Corrupted input") as trace:
        with pytest.warns(mlxterp.AlignedWarning, match="2 tokens .* run of 3; the last 2") as caught:
            smol.layers[8].mlp.output = value
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(np.asarray(trace.layers[8].mlp.output)[:, -2:], np.asarray(value))
    with clean.fork() as shorter, pytest.warns(mlxterp.AlignedWarning, match="3 tokens .* run of 2"):
        smol.layers[8].mlp.output = smol.trace("Corrupted input").layers[8].mlp.output
    assert shorter.receipts()[0]["positions"] == [0, 1]
    with warnings.catch_warnings(), smol.trace("Corrupted input") as trace:
        warnings.simplefilter("error")
        with pytest.raises(mlxterp.ShapeError, match=r"\[1, 2, 576\].*\[1, 3, 576\]"):
            trace.layers[8].mlp.output = np.asarray(value)  # a bare array says nothing of its tokens


@pytest.mark.parametrize("missing", ["numpy", "mlx"])
def test_nothing_but_the_standard_library_is_needed(missing: str) -> None:
    hide = "\n".join(f"sys.modules[{name!r}] = None" for name in ("numpy", "mlx", "mlx.core"))
    code = f"""
import sys
{hide if missing == "numpy" else hide.replace("sys.modules['numpy'] = None", "")}
from mlxterp import InterpretableModel, interventions as iv, get_activations
model = InterpretableModel({str(ROOT / "tests/fixtures/tiny/llama")!r})
with model.trace([[1, 2, 3], [4]], interventions={{"layers.0.mlp": lambda v: v * 2}}) as trace:
    model.layers[0].attn.output[:, -1] += [0.5] * 24
    best = model.output.argmax(-1).tolist()
assert len(best) == 2 and all(0 <= t < 64 for row in best for t in row)
assert get_activations(model, [1, 2, 3])["layer_1"].shape == (1, 24)
print(trace.output, trace._repr_html_()[:10], trace.output.tolist()[0][0][0])
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "shape=(2, 3, 64)" in done.stdout


def test_an_uncaught_error_points_at_the_users_line(tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text(
        "from mlxterp import InterpretableModel\n"
        f"model = InterpretableModel({str(ROOT / 'tests/fixtures/tiny/llama')!r})\n"
        "with model.trace([1, 2, 3]):\n"
        "    logits = model.output\n"
        "    model.layers[0].output = 0  # too late\n"
    )
    done = run(f"import runpy; runpy.run_path({str(script)!r})")
    assert done.returncode == 1
    assert f"{script}:5" in done.stderr.splitlines()[-1] and "too late" in done.stderr.splitlines()[-1]
    assert "StaleWrite" in done.stderr


def test_the_interpreter_ends_quietly_whatever_is_still_alive() -> None:
    code = f"""
import numpy as np, mlxterp
from mlxterp import InterpretableModel, from_numpy
model = InterpretableModel({str(ROOT / "tests/fixtures/tiny/llama")!r})
trace = model.trace([1, 2], interventions={{"layers.0": lambda v: v + 1}})
kept = from_numpy(np.ones(9, np.float32)) * 2
view = np.asarray(trace.output)
capsules = [kept.__dlpack__(), kept.__dlpack__(max_version=(1, 0))]
loop = [trace, kept]; loop.append(loop)
try:
    import mlx.core as mx
    theirs = mx.array(kept)
except ImportError:
    pass
"""
    done = run(code)
    assert done.returncode == 0 and done.stderr == ""


def test_a_missing_or_wrong_library_is_named(tmp_path: Path) -> None:
    done = run("import mlxterp", MLXTERP_LIBRARY=str(tmp_path / "nowhere.so"))
    assert "LibraryError" in done.stderr and "nowhere.so" in done.stderr
    fake = tmp_path / "fake.so"
    fake.write_bytes(b"not a library")
    done = run("import mlxterp", MLXTERP_LIBRARY=str(fake))
    assert "LibraryError" in done.stderr and "cannot be loaded" in done.stderr
    other = "import sys, types; m = types.ModuleType('mlx.core'); m.__version__ = '0.1.0'; sys.modules['mlx.core'] = m"
    done = run(f"{other}\nimport mlxterp")
    if sys.platform.startswith("linux"):
        assert "mlx 0.1.0 is imported" in done.stderr and "pip install" in done.stderr
