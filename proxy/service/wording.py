"""Phrases which the errors of several layers share, written so that a model can act on them."""

from proxy.model import Call


def subject(call: Call) -> str:
    """What was called, by the upstream's own name."""
    return call.target or call.method


def repeat_hint(call: Call) -> str:
    """What to do about a call of which nobody knows whether it ran."""
    if call.safe:
        return "It can be repeated without harm."
    return "It may have run: check its effect before you repeat it."
