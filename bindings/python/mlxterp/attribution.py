"""Attribution and circuits: what contributes to an answer, and the edges that make it."""

from __future__ import annotations

from typing import Any

from .model import InterpretableModel
from .tools import Result, run


def integrated_gradients(
    model: InterpretableModel,
    prompts: Any,
    metric: Any,
    *,
    site: str | None = None,
    baseline: Any = None,
    steps: int | None = None,
    chunk: int | None = None,
    **more: Any,
) -> Result:
    """A metric attributed to the values of a site (the embedding), from a baseline: Sundararajan et al. 2017.

    baseline: zeros when nothing is said; a prompt or prompts of as many tokens; or an array that fits the site.
    steps: points on the way (32); chunk: rows of a batch at most (16).
    Array: "attributions", of the site's shape. `data["completeness_error"]` is how far their sum is off, a number a prompt.
    """
    if baseline is None or isinstance(baseline, (str, list, tuple)):
        more["baseline"] = None if baseline is None else {"prompts": baseline}
    else:
        more["arrays"] = {"baseline": baseline}
    return run(model, "integrated_gradients", prompts=prompts, metric=metric, site=site, steps=steps, chunk=chunk, **more)


def attribution_patching(
    model: InterpretableModel,
    clean: Any,
    corrupt: Any,
    metric: Any,
    *,
    components: list[str] | None = None,
    neurons: int | None = None,
    **more: Any,
) -> Result:
    """What each layer, head and neuron's clean value would change in the corrupt run, to first order: Nanda 2023.

    components: of "residual", "attention", "mlp", "head", "neuron"; all when nothing is said.
    neurons: how many are listed (20).
    Arrays, by component: [pair, layer, position], heads [pair, layer, head, position], neurons [pair, layer, position, neuron].
    """
    options: dict[str, Any] = {"components": components, "neurons": neurons}
    return run(model, "attribution_patching", clean=clean, corrupt=corrupt, metric=metric, **options, **more)


def edge_attribution(
    model: InterpretableModel,
    clean: Any,
    corrupt: Any,
    metric: Any,
    *,
    method: str | None = None,
    steps: int | None = None,
    edges: int | None = None,
    chunk: int | None = None,
    **more: Any,
) -> Result:
    """What corrupting each edge of the model's graph would change.

    method: "eap" (Syed et al. 2023), "eap_ig" (Hanna et al. 2024, the default) or "exact", edge by edge.
    steps: points on the way, for eap_ig (5); edges: of the circuit in `data["circuit"]` (50); chunk: rows of a batch (64).
    Array: "scores" [sender, receiver], named by `data["senders"]` and `data["receivers"]`.
    """
    options: dict[str, Any] = {"method": method, "steps": steps, "edges": edges, "chunk": chunk}
    return run(model, "edge_attribution", clean=clean, corrupt=corrupt, metric=metric, **options, **more)


def acdc(
    model: InterpretableModel,
    clean: Any,
    corrupt: Any,
    metric: Any = None,
    *,
    threshold: float | None = None,
    ablation: str | None = None,
    chunk: int | None = None,
    **more: Any,
) -> Result:
    """The edges left when each is cut that costs less than a threshold (0.01): Conmy et al. 2023. `data["circuit"]` has them.

    metric: the KL divergence from the clean prediction when nothing is said.
    ablation: what cut edges carry: "resample" (the default), "mean" or "zero".
    """
    options: dict[str, Any] = {"threshold": threshold, "ablation": ablation, "chunk": chunk}
    return run(model, "acdc", clean=clean, corrupt=corrupt, metric=metric, **options, **more)


def circuit(
    model: InterpretableModel,
    circuit: Any,
    clean: Any = None,
    corrupt: Any = None,
    metric: Any = None,
    *,
    largest: int | None = None,
    above: float | None = None,
    ablation: str | None = None,
    **more: Any,
) -> Result:
    """A circuit pruned, drawn, and, on prompts, measured: `data["evaluation"]` has faithfulness and completeness.

    circuit: the result of `edge_attribution`, `acdc` or this function, or its `data["circuit"]`.
    largest, above: only so many of the largest edges; only edges at least this large.
    ablation: what cut edges carry: "resample" (the default), "mean" or "zero".
    `data["dot"]` is for Graphviz.
    """
    given = circuit.data["circuit"] if isinstance(circuit, Result) else circuit
    options: dict[str, Any] = {"largest": largest, "above": above, "ablation": ablation}
    return run(model, "circuit", circuit=given, clean=clean, corrupt=corrupt, metric=metric, **options, **more)
