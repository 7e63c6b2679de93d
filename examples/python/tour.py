"""The tour: load, list, read, steer, patch, fork, an error, a hook that fails.

The same program in C (examples/c), C++ (examples/cpp) and Swift (examples/swift) prints the same lines.

    python examples/python/tour.py MODEL
"""

import sys

import mlxterp
from mlxterp import InterpretableModel
from mlxterp import interventions as iv


def print_next(what, model, trace):
    probabilities = trace.output[0, -1].softmax()
    top = probabilities.topk(2)
    shown = [f" '{model.token_to_str(t)}' {float(probabilities[t]):.0%}" for t in top.tolist()]
    print(what + ":", *shown, sep="")


def tour(path):
    # Load.
    model = InterpretableModel(path)
    print(f"model: {model.num_layers} layers of width {model.hidden_size}, {model.num_heads} heads")

    # List sites.
    print(f"layers.*.mlp: {len(model.sites('layers.*.mlp'))} sites")

    # Read three. Nothing is computed yet.
    with model.trace("The capital of France is") as france:
        for site in "layers.3.attn.output", "layers.3.attn.pattern", "output":
            value = france[site]
            print(f"{site}: {list(value.shape)}, computed: {'yes' if value.is_evaluated else 'no'}")
        there = model.layers[15].output[0, -2]
    print("layers.15.output at France:", *(f"{x:.3f}" for x in there.tolist()[:3]))
    print_next("France", model, france)

    # Steer: what sets Italy apart from France, added at the country's token.
    with model.trace("The capital of Italy is"):
        here = model.layers[15].output[0, -2]
    with model.steer(layers=[15], vector=here - there, positions=-2):
        print_next("France, steered to Italy", model, model.trace("The capital of France is"))

    # Patch: a value of one run in another.
    with model.trace("The capital of Italy is") as patched:
        model.layers[15].output[:, -2] = there
    print_next("Italy, patched with France", model, patched)

    # Fork: a second continuation of the first run, in which anything may be written.
    fork = france.fork()
    fork.layers[15].mlp.output = iv.zero_out
    print_next("France, without an MLP", model, fork)
    print_next("France, still", model, france)

    # An error is a built-in one too, with a message that has the way out.
    try:
        france["layers.99.mlp"]
    except KeyError as error:
        print("error:", error)

    # What a hook raises comes back as itself.
    def refuse(value, event):
        raise ArithmeticError(f"refused at {event.site}")

    try:
        with model.trace("The capital of France is", interventions={"layers.3.attn.output": refuse}):
            model.output.save()
    except ArithmeticError as error:
        print("hook:", error.args[0].splitlines()[0])


if __name__ == "__main__":
    before = mlxterp.live_handles()
    tour(sys.argv[1])
    print("handles left:", mlxterp.live_handles() - before)
