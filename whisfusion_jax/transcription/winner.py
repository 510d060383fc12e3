"""Parallel Diffusion Decoding's last word: which of an utterance's candidates wins."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from whisfusion_jax.text.scripts import BY_CHARACTER

Winner = Literal["mbr", "confidence"]


def pick_winner(
    texts: Sequence[str], confidences: Sequence[np.ndarray], by: Winner, language: str | None
) -> int:
    """Index of the winning candidate; the first of equals.

    Args:
        texts: one a candidate.
        confidences: probabilities of each candidate's text tokens.
        by: `mbr` takes the lowest expected edit distance to the others (Whisfusion's second
            version), on words or on characters; `confidence` the highest mean log-probability.
        language: of the utterance.
    """
    if by == "confidence":
        means = [np.log(np.maximum(c, 1e-30)).mean() if len(c) else 0.0 for c in confidences]
        return int(np.argmax(means))
    units = [list(text) if language in BY_CHARACTER else text.split() for text in texts]
    risks = [sum(edit_distance(one, other) for other in units) for one in units]
    return int(np.argmin(risks))


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Levenshtein distance of two sequences of words, characters or tokens."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
