"""The steps of the tour on a tiny model, over and over: many_traces.py MODEL TRACES.

Says how much memory was held after a fifth of the traces and after all of them, and how many handles are left.
"""

import re
import sys

import mlxterp
from mlxterp import InterpretableModel, StaleWrite, UnknownSiteError
from mlxterp import interventions as iv


def refused(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def tour(model, turn):
    """Two traces: one, and its fork."""
    # Read, and write what was read, changed, at one position.
    with model.trace([3, 7, 11, 20]) as trace:
        part = model.layers[0].attn.output[:, -1]
        model.layers[0].attn.output[:, -1] += part
        trace.output.eval()

    def hook(value, event):
        if turn % 2 == 0:
            raise KeyError("every other time")
        return value * 0.5

    # Another continuation, with an intervention and a hook; every other hook raises.
    fork = trace.fork()
    fork.intervene("layers.1.mlp", iv.zero_out().positions([-1]))
    try:
        fork.intervene("layers.1.attn.pattern", iv.custom(hook, "hook"))
        fork.output.eval()
        raised = False
    except KeyError:
        raised = True
    assert raised == (turn % 2 == 0)

    # Mistakes.
    refused(UnknownSiteError, lambda: trace.read("layers.99.mlp"))
    refused(StaleWrite, lambda: trace.write("layers.0.mlp.output", part))


def resident():
    """In kilobytes; 0 where there is no /proc."""
    try:
        with open("/proc/self/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
    except FileNotFoundError:
        return 0


def main(path, traces):
    model = InterpretableModel(path)
    for i in range(2, traces + 1, 2):
        tour(model, i // 2)
        if i in (traces // 5, traces):
            print(f"after {i} traces: {mlxterp.memory_used()} bytes held, {resident()} kB resident")


before = mlxterp.live_handles()  # the package's own
main(sys.argv[1], int(sys.argv[2]))
# Without a collection: what went out of sight has gone.
print(f"handles left: {mlxterp.live_handles() - before}")
