"""Going on after tokens that were seen before."""

from __future__ import annotations

import numpy as np
import pytest

from mlxterp import Cache, InterpretableModel, InvalidArgumentError


def test_steps_equal_one_forward(tiny: InterpretableModel) -> None:
    ids = [3, 9, 4, 17, 8]
    full = np.asarray(tiny.forward(ids))
    first = tiny.trace(ids[:3], cache=Cache())
    cache = first.cache()
    assert cache.lengths == (3,) and cache.nbytes > 0
    for p in (3, 4):
        step = tiny.trace(ids[p : p + 1], cache=cache)
        np.testing.assert_allclose(np.asarray(step.output)[0, 0], full[0, p], rtol=0, atol=3e-5 * np.abs(full).max())
        cache = step.cache().eval()
    assert cache.lengths == (5,)
    assert first.cache().lengths == (3,)
    assert repr(Cache()) == "Cache(lengths=(), nbytes=0)"


def test_a_trace_without_a_cache_remembers_nothing(tiny: InterpretableModel) -> None:
    with pytest.raises(InvalidArgumentError, match="start it with a cache"):
        tiny.trace([3, 9]).cache()
