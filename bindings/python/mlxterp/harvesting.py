"""Harvesting: activations over a data set, written to a folder of shards as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import tools

if TYPE_CHECKING:
    from .model import InterpretableModel

#: Documents that are handed over at once. A harvest begun again goes on at a multiple of it, so that it must not change.
PART = 512


def harvest(
    model: InterpretableModel,
    data: str | PathLike[str] | Iterable[Any],
    out: str | PathLike[str],
    sites: str | list[str],
    *,
    key: str | None = None,
    dtype: str | None = None,
    max_tokens: int | None = None,
    long: str | None = None,
    skip_special: bool | None = None,
    batch_size: int | None = None,
    window: int | None = None,
    shard_vectors: int | None = None,
    **more: Any,
) -> tools.Result:
    """Writes the activations of sites over documents to the folder `out`. Call it again to go on after an end at any moment.

    data: a .txt file (a text a line) or a .jsonl file (texts under `key`, "text" by default); or an iterable of texts or lists
        of token ids, which must give the same ones again when it is gone on with.
    dtype: "float32", "bfloat16" or "float16". max_tokens: of a run; `long`: "chunk" or "truncate" what is longer.
    skip_special: whether vectors at special tokens are left out (the default).
    more: what `tools.run` takes; `progress` is told documents.
    """
    options: dict[str, Any] = {
        "out": fspath(out), "sites": [sites] if isinstance(sites, str) else sites, "dtype": dtype,
        "max_tokens": max_tokens, "long": long, "skip_special": skip_special, "batch_size": batch_size,
        "window": window, "shard_vectors": shard_vectors, **more,
    }  # fmt: skip
    if isinstance(data, (str, PathLike)):
        return tools.run(model, "harvest", data=fspath(data), key=key, **options)
    begun = open_harvest(model, out).data["documents"] if (Path(out) / "index.json").exists() else 0
    # Whole parts that are done are not run again; the library skips what is done of the one after them.
    start = begun - begun % PART
    documents = islice(iter(data), start, None)
    part = list(islice(documents, PART))
    while True:
        following = list(islice(documents, PART))
        last = not following
        found = tools.run(model, "harvest", documents=part, start=start, last=last, **options)
        if last:
            return found
        start, part = start + PART, following


def open_harvest(model: InterpretableModel, out: str | PathLike[str]) -> tools.Result:
    """What a harvest has and how far it has come; a shard that is missing or not whole is an error."""
    return tools.run(model, "harvest", out=fspath(out))


def shards(model: InterpretableModel, out: str | PathLike[str]) -> Iterator[tools.Result]:
    """The shards of a harvest, one after another: an array [vector, width] a site, and "tokens", "documents", "positions"."""
    for number in range(len(open_harvest(model, out).data["shards"])):
        yield tools.run(model, "harvest", out=fspath(out), shard=number)
