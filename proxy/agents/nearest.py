"""Finds the names most like a wrong one, at a cost that stays small with thousands of names."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import Final

SUGGESTIONS: Final = 3
"""How many names are suggested at most."""
LIKENESS: Final = 0.6
"""How alike two names must be, from 0 to 1 (``difflib``'s measure)."""

_CANDIDATES = 24
"""How many names are compared in full: those which share the most trigrams with the wrong one."""
_LONGEST = 128
"""How much of a name is compared, in characters."""
_COMMON = 400
"""A trigram in more names than this tells nothing."""


class Nearest:
    """Suggestions out of a fixed set of names.

    Args:
        names: pairs of a name to suggest and what a wrong name may have been meant for, usually a shorter form of it.
    """

    def __init__(self, names: Sequence[tuple[str, str]]) -> None:
        self._names = names

    def to(self, name: str) -> tuple[str, ...]:
        """The names most like one, the best first; none if nothing is alike."""
        wrong = name[:_LONGEST].lower()
        scored = ((self._likeness(wrong, index), self._names[index][0]) for index in self._candidates(wrong))
        best = sorted(((-score, text) for score, text in scored if score >= LIKENESS))
        return tuple(dict.fromkeys(text for _, text in best))[:SUGGESTIONS]

    def _likeness(self, wrong: str, index: int) -> float:
        matcher = SequenceMatcher(None, b=wrong, autojunk=False)
        scores = []
        for text in dict.fromkeys(self._names[index]):
            matcher.set_seq1(text[:_LONGEST].lower())
            scores.append(matcher.ratio() if matcher.quick_ratio() >= LIKENESS else 0.0)
        return max(scores)

    def _candidates(self, wrong: str) -> list[int]:
        shared: Counter[int] = Counter()
        for trigram in _trigrams(wrong):
            shared.update(self._index.get(trigram, ()))
        return [index for index, _ in shared.most_common(_CANDIDATES)]

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        index: defaultdict[str, list[int]] = defaultdict(list)
        for position, forms in enumerate(self._names):
            for trigram in set().union(*(_trigrams(form[:_LONGEST].lower()) for form in forms)):
                index[trigram].append(position)
        few = len(self._names) <= _COMMON
        return {trigram: found for trigram, found in index.items() if few or len(found) <= _COMMON}


def _trigrams(text: str) -> set[str]:
    padded = f"^{text}$"
    return {padded[start : start + 3] for start in range(len(padded) - 2)}
