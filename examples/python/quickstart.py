"""Reads, changes, patches and steers a forward pass: `python examples/python/quickstart.py [MODEL]`."""

import sys

from mlxterp import InterpretableModel, StaleWrite

MODEL = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf"
FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


def say(model, logits, what):
    """The three likeliest tokens after the last one."""
    probabilities = logits[0, -1].softmax(-1)
    best = probabilities.topk(3).tolist()
    print(what + ":", ", ".join(f"{model.token_to_str(t)!r} {float(probabilities[t]):.0%}" for t in best))


def main():
    model = InterpretableModel(sys.argv[1] if len(sys.argv) > 1 else MODEL)
    print(model)

    # Read. Nothing is computed until numbers are looked at.
    with model.trace(FRANCE) as clean:
        pattern = model.layers[3].attn.pattern.save()
        france = model.layers[15].output[0, -2].save()  # at the country's token, [hidden]
        logits = model.output.save()
    print("layer 3's pattern, [batch, head, query, key]:", pattern.shape)
    say(model, logits, "untouched")

    # Change. A write behind what was read is refused; a fork may make it.
    try:
        clean.layers[15].attn.output = clean.layers[15].attn.output * 0
    except StaleWrite as error:
        print("as it should be:", error)
    fork = clean.fork()
    fork.layers[15].attn.output = fork.layers[15].attn.output * 0
    say(model, fork.output, "without the attention of layer 15")

    # Patch: a value of one run in another.
    with model.trace(ITALY):
        italy = model.layers[15].output[0, -2].save()
        model.layers[15].output[:, -2] = france
        say(model, model.output, "Italy, with France's state at the country's token after layer 15")

    # Steer: a direction from two prompts, added at the country's token.
    with model.steer(layers=[15], vector=italy - france, strength=1.0, positions=-2):
        with model.trace(FRANCE) as steered:
            say(model, model.output, "France, steered to Italy")
    for receipt in steered.receipts():
        print(receipt["site"], receipt["change"], receipt["positions"], round(receipt["change_norm"], 1))


if __name__ == "__main__":
    main()
