"""Phrases which the errors of several layers share, written so that a model can act on them."""

from typing import Final

from proxy.model import Call

NOTHING_SENT: Final = "Nothing was sent."
HARMLESS: Final = "It can be repeated without harm."
MAY_HAVE_RUN: Final = "It may have run: check its effect before you repeat it."

FATES: Final = (NOTHING_SENT, HARMLESS, MAY_HAVE_RUN)
"""What a hint says of what became of the call. Whoever shows it need not say it again."""


def subject(call: Call) -> str:
    """What was called, by the upstream's own name."""
    return call.target or call.method


def repeat_hint(call: Call) -> str:
    """What to do about a call of which nobody knows whether it ran."""
    if call.safe:
        return HARMLESS
    return MAY_HAVE_RUN
