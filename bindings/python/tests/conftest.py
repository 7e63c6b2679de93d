"""Models for the tests: tiny random ones from the fixtures, and the real one that the set-up fetches."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
if "MLXTERP_TEST_INSTALLED" not in os.environ:
    sys.path.insert(0, str(ROOT / "bindings" / "python"))

import mlxterp  # noqa: E402

TINY = ROOT / "tests" / "fixtures" / "tiny"
GGUF = Path(os.environ.get("MLXTERP_TEST_GGUF", ROOT / "target" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))


@pytest.fixture(scope="session")
def tiny() -> mlxterp.InterpretableModel:
    """Two layers, token ids only."""
    return mlxterp.InterpretableModel(TINY / "llama")


@pytest.fixture(scope="session")
def worded_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model directory with a tokenizer."""
    folder = tmp_path_factory.mktemp("worded")
    for source in ("llama_tied", "tokenizer"):
        for file in (TINY / source).iterdir():
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def worded(worded_path: Path) -> mlxterp.InterpretableModel:
    """A tiny model with a tokenizer."""
    return mlxterp.InterpretableModel(worded_path)


@pytest.fixture(scope="session")
def smol_path() -> Path:
    """SmolLM2-135M-Instruct as the set-up fetches it."""
    assert GGUF.is_file(), f"{GGUF} is missing: `cargo xtask setup` fetches it"
    return GGUF


@pytest.fixture(scope="session")
def smol(smol_path: Path) -> mlxterp.InterpretableModel:
    """The real model."""
    return mlxterp.InterpretableModel(smol_path)


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fails the test when it leaves handles of the library behind."""
    gc.collect()
    before = mlxterp.live_handles()
    yield
    gc.collect()
    assert mlxterp.live_handles() == before
