"""The "did you mean" of error messages."""

from __future__ import annotations

from collections.abc import Iterable

_FARTHEST = 2
# Longer words are never within two edits of a keyword; hostile input must not cost quadratic time.
_LONGEST = 128


def nearest(word: str, options: Iterable[str], *, ignore_case: bool = False) -> str:
    """The option that takes the fewest single-character edits, at most two; "" when none does or one is equal.

    Args:
        word: what was written.
        options: what would have been right.
        ignore_case: compare without case; the answer then takes the case of `word` where it is uniform.
    """
    wanted = word.lower() if ignore_case else word
    best, distance = "", _FARTHEST + 1
    if not 0 < len(wanted) <= _LONGEST:
        return ""
    for option in options:
        candidate = option.lower() if ignore_case else option
        if candidate == wanted:
            return ""
        if abs(len(candidate) - len(wanted)) < distance and (edits := _edits(wanted, candidate)) < distance:
            best, distance = option, edits
    if ignore_case and word == word.lower():
        return best.lower()
    return best.upper() if ignore_case and word == word.upper() else best


def did_you_mean(word: str, options: Iterable[str], *, ignore_case: bool = False) -> str:
    """The suffix for a message: ` (did you mean X?)` or ""."""
    match = nearest(word, options, ignore_case=ignore_case)
    return f" (did you mean {match}?)" if match else ""


def _edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
