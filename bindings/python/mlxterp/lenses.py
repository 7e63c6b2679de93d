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
