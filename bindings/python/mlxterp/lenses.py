"""Intermediate states read through the model's own head, and logits taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tools import Result, run

if TYPE_CHECKING:
    from .model import InterpretableModel


def logit_lens(
    model: InterpretableModel,
    prompts: Any,
    *,
    component: str = "resid_post",
    layers: list[int] | None = None,
    positions: list[int] | None = None,
    top: int = 5,
    targets: list[str | int] | None = None,
    embedding: bool = True,
    shade: str = "probability",
    **more: Any,
) -> Result:
    """What the model would say if it stopped after each layer, at every position.

    component: "resid_pre", "resid_mid", "resid_post", or what "attn" or "mlp" adds.
    layers, positions: all by default; negative from the end.
    top: how many of the likeliest tokens in each cell.
    targets: tokens whose probability and rank to tell.
    embedding: whether the embedding is a row of its own, layer -1.
    shade: what colours the figure: "probability", "entropy", "kl" or "rank".

    `data["prompts"][i]["cells"][layer][position]` has `top`, `entropy` and `kl` (nats; KL(final || here)), `next` and
    `targets`. Arrays: "0.top_tokens", "0.top_probability", "0.entropy", "0.kl", … by prompt. `more` is what `run` takes.
    """
    return run(
        model,
        "logit_lens",
        prompts=prompts,
        component=component,
        layers=layers,
        positions=positions,
        top=top,
        targets=targets,
        embedding=embedding,
        shade=shade,
        **more,
    )


def direct_logit_attribution(
    model: InterpretableModel,
    prompts: Any,
    answer: Any = None,
    wrong: Any = None,
    *,
    position: int = -1,
    norm: str = "frozen",
    heads: bool = False,
    neurons: int = 0,
    **more: Any,
) -> Result:
    """A logit, or the difference of two, as the sum of what every part of the model put into it.

    answer, wrong: tokens, or lists of one a prompt; without an answer the likeliest token, without a wrong one its logit.
    norm: "frozen" (the final norm's scale as it was in this run), or "linearised" (its gradient).
    heads: whether attention is told apart by heads.
    neurons: how many of the largest neurons to name; 0: MLPs are not told apart.

    Arrays: "logit" and "remainder" [prompt], "components" [prompt, layer, component], "embed" and biases [prompt], "heads.3"
    [prompt, head] and "neurons.3" [prompt, neuron] by layer. `more` is what `run` takes.
    """
    return run(
        model,
        "direct_logit_attribution",
        prompts=prompts,
        answer=answer,
        wrong=wrong,
        position=position,
        norm=norm,
        heads=heads,
        neurons=neurons,
        **more,
    )


def tuned_lens_train(
    model: InterpretableModel,
    texts: Any,
    *,
    save: Any = None,
    layers: list[int] | None = None,
    steps: int = 250,
    batch: int = 8,
    length: int = 128,
    positions: int = 128,
    optimiser: str = "adam",
    rate: float | None = None,
    clip: float = 1.0,
    held_out: float = 0.1,
    held_out_positions: int = 256,
    every: int = 50,
    patience: int = 3,
    seed: int = 0,
    **more: Any,
) -> Result:
    """Learns a tuned lens: for each layer's output an affine map with which the model's head reads it.

    texts: what to train on, cut into sequences of `length` tokens; a share `held_out` of them is kept for testing.
    save: a .safetensors file to write.
    layers: all but the last by default.
    batch, positions: sequences of a step, and how many of their tokens it looks at.
    optimiser, rate, clip: "adam" (0.001) or "sgd" (1, Nesterov momentum 0.9); the rate falls to 0; gradients are clipped.
    every, patience: steps between two looks at the held-out part, and how many looks without a better one end it.

    Arrays: "weights" [layer, feature, feature] and "biases" [layer, feature], which `tuned_lens` takes; "losses" [step]; "kl"
    [layer, 2], the held-out KL(final || lens) of the logit lens and of this one. `more` is what `run` takes.
    """
    return run(
        model,
        "tuned_lens_train",
        texts=texts,
        save=save,
        layers=layers,
        steps=steps,
        batch=batch,
        length=length,
        positions=positions,
        optimiser=optimiser,
        rate=rate,
        clip=clip,
        held_out=held_out,
        held_out_positions=held_out_positions,
        every=every,
        patience=patience,
        seed=seed,
        **more,
    )


def tuned_lens(model: InterpretableModel, prompts: Any, lens: Any, **options: Any) -> Result:
    """`logit_lens` through a tuned lens: the result of `tuned_lens_train`, or a file.

    A file is .safetensors, or the .npz (with its .json) that the Python mlxterp wrote. `options` are those of `logit_lens`.
    """
    if isinstance(lens, Result):
        arrays = {"weights": lens["weights"], "biases": lens["biases"]}
        return run(model, "tuned_lens", prompts=prompts, arrays=arrays, **options)
    return run(model, "tuned_lens", prompts=prompts, lens=lens, **options)


def patchscope(
    model: InterpretableModel,
    source: Any,
    target: Any = None,
    *,
    layers: list[int] | None = None,
    position: int = -1,
    target_layer: int | None = None,
    target_position: int = -1,
    tokens: int = 8,
    top: int = 5,
    targets: list[str | int] | None = None,
    weight: Any = None,
    bias: Any = None,
    **more: Any,
) -> Result:
    """What the model itself makes of a hidden state that is put into another prompt.

    source, position: the prompt and the place in it that states are read at, after each of `layers` (all by default).
    target, target_position: the prompt and the place that they are put into; by default one that asks for the token itself.
    target_layer: whose output is replaced there; by default the layer that was read.
    tokens: how many tokens to continue with, greedily.
    weight, bias: an affine map of the states on their way, [feature, feature] and [feature].

    `data["rows"]` has `layer`, `target_layer`, `top`, `targets` and `continuation`. `more` is what `run` takes.
    """
    arrays = {name: value for name, value in (("weight", weight), ("bias", bias)) if value is not None}
    return run(
        model,
        "patchscope",
        source=source,
        target=target,
        layers=layers,
        position=position,
        target_layer=target_layer,
        target_position=target_position,
        tokens=tokens,
        top=top,
        targets=targets,
        arrays=arrays,
        **more,
    )
