"""What a site read costs through ctypes: building a traced graph with reads, less building it with fewer.

    MLXTERP_LIBRARY=target/release/libmlxterp.so python bindings/python/benchmarks/site_read.py MODEL
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlxterp import InterpretableModel


def median(work, repeats=60):
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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


base, none, every = median(bare), median(traced(0)), median(traced(len(names)))
print(f"bare graph {base * 1e3:.2f} ms; a trace adds {(none - base) * 1e6:.0f} us")
print(f"{len(names)} reads add {(every - none) / len(names) * 1e6:.2f} us each")
