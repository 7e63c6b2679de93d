"""Patching: a value of one run put into another, and what the answer makes of it."""

from __future__ import annotations

from typing import Any

from .model import InterpretableModel
from .tools import Result, run


def activation_patching(
    model: InterpretableModel,
    clean: Any,
    corrupt: Any,
    metric: Any = None,
    *,
    component: str | None = None,
    axes: list[str] | None = None,
    direction: str | None = None,
    distance: dict[str, str] | None = None,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    neurons: list[int] | None = None,
    positions: list[int] | None = None,
    align: list[Any] | None = None,
    **more: Any,
) -> Result:
    """What a value of the clean run does in the corrupted one, place by place; prompts go in pairs, by row.

    component: resid_pre, resid_mid, resid_post, attn, mlp, q, k, v, z, pattern or neuron.
    axes: "layer", and of "position", "head" and "neuron" those wanted; what is left out is patched all at once.
    direction: "denoising", or "noising": corrupted values into the clean run.
    distance: in place of a metric, how far the run is from the clean one: {"kind": "l2", "mse" or "cosine", "of": "logits" or
        "residual"}.
    align: pairs (clean position, corrupted position), where a pair's prompts differ in length.
    Arrays: "raw" and "normalised" (0 = corrupted, 1 = clean), shaped by the axes, and for several pairs "raw_by_pair" and
    "normalised_by_pair".
    """
    options: dict[str, Any] = {"component": component, "axes": axes, "direction": direction, "distance": distance}
    options |= {"layers": layers, "heads": heads, "neurons": neurons, "positions": positions, "align": align}
    return run(model, "activation_patching", clean=clean, corrupt=corrupt, metric=metric, **options, **more)


def causal_tracing(
    model: InterpretableModel,
    prompt: Any,
    subject: str | list[int],
    *,
    answer: Any = None,
    component: str | None = None,
    window: int | None = None,
    layers: list[int] | None = None,
    positions: list[int] | None = None,
    noise: Any = None,
    samples: int | None = None,
    seed: int | None = None,
    **more: Any,
) -> Result:
    """Which clean states bring the answer back after noise on the subject: Meng et al. 2022.

    subject: its words as they stand in the prompt, or its positions.
    answer: the token whose probability is measured; the clean run's most likely when nothing is said.
    component: "resid_post" (single states), "resid_pre", "resid_mid", or windows of 10 layers of "attn" or "mlp".
    noise: a number, in standard deviations of the embedding (3); or an array [sample, subject token, feature].
    Arrays: "restored" and "effect" [layer, position], "restored_by_sample", "corrupt_by_sample".
    """
    options: dict[str, Any] = {"subject": subject, "answer": answer, "component": component, "window": window}
    options |= {"layers": layers, "positions": positions, "samples": samples, "seed": seed}
    if noise is None or isinstance(noise, (int, float)):
        options["noise"] = noise
    else:
        more["arrays"] = {"noise": noise}
    return run(model, "causal_tracing", prompt=prompt, **options, **more)


def path_patching(
    model: InterpretableModel,
    clean: Any,
    corrupt: Any,
    metric: Any = None,
    *,
    receivers: list[dict[str, Any]] | None = None,
    senders: str | None = None,
    mlps: str | None = None,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    positions: list[int] | None = None,
    **more: Any,
) -> Result:
    """What each head or MLP tells the receivers directly: Wang et al. 2022, Goldowsky-Dill et al. 2023.

    receivers: the logits when nothing is said; else {"input": "q", "k" or "v", "layer": …, "head": …} and
        {"input": "mlp", "layer": …}, all together.
    senders: "heads" or "mlp"; layers, heads, positions: which of them.
    mlps: "frozen" at their clean values between sender and receiver, or "recomputed".
    Arrays: "raw" and "normalised" (1 = clean, 0 = corrupted) [layer, head].
    """
    options: dict[str, Any] = {"receivers": receivers, "senders": senders, "mlps": mlps}
    options |= {"layers": layers, "heads": heads, "positions": positions}
    return run(model, "path_patching", clean=clean, corrupt=corrupt, metric=metric, **options, **more)
