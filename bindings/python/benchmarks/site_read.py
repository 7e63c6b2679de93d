"""What a site read costs through ctypes: building a traced graph with reads, less building it with fewer.

    MLXTERP_LIBRARY=target/release/libmlxterp.so python bindings/python/benchmarks/site_read.py MODEL
"""

import gc
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlxterp import InterpretableModel


def best(work, repeats=200):
    """The best of many, in microseconds: what the work costs when nothing else runs."""
    work()
    gc.disable()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    gc.enable()
    return min(times) * 1e6


model = InterpretableModel(sys.argv[1])
tokens = list(range(1000, 1128))
names = [site.name for site in model.sites() if not site.on_touch]


def bare():
    model.forward(tokens)


def traced(reads):
    def work():
        with model.trace(tokens) as trace:
            for name in names[:reads]:
                trace.read(name)
            trace.read("output")

    return work


def by_member(times):
    """As a program is written: the same number of reads for each layer."""

    def work():
        with model.trace(tokens):
            for layer in model.layers:
                for _ in range(times):
                    layer.attn.output
            model.output

    return work


base, none, every = best(bare), best(traced(0)), best(traced(len(names)))
once, often = best(by_member(1)), best(by_member(41))
print(f"{len(names)} reads over a bare graph of {base / 1e3:.2f} ms; a trace adds {none - base:.0f} us")
print(f"Python, by name\t{(every - none) / len(names):.3f}")
print(f"Python, by member\t{(often - once) / (40 * len(model.layers)):.3f}")
