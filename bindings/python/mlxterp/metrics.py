"""Metrics by name, at each row's own last token. A token is its id, or a text that is exactly one token (" Paris").

Any function of a trace that gives a number a row is a metric too.
"""

from __future__ import annotations

from typing import Any

Token = Any  # int or str, or a list of them: one a row


def logit_difference(answer: Token, wrong: Token) -> dict[str, Any]:
    """Logit of `answer` less that of `wrong`."""
    return {"logit_difference": {"answer": answer, "wrong": wrong}}


def logit(answer: Token) -> dict[str, Any]:
    """A token's logit."""
    return {"logit": {"answer": answer}}


def probability(answer: Token) -> dict[str, Any]:
    """A token's probability."""
    return {"probability": {"answer": answer}}


def log_probability(answer: Token) -> dict[str, Any]:
    """A token's log probability, in nats."""
    return {"log_probability": {"answer": answer}}


def kl_divergence() -> str:
    """KL(reference ‖ here) of the next-token distribution, in nats; the analysis names the reference run."""
    return "kl_divergence"
