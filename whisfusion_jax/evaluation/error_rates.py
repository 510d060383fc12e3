"""Word and character error rates, pooled over utterances, with a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np


@dataclass(frozen=True)
class Errors:
    """Edit counts of one utterance or of many."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def words(self) -> int:
        """Units of the reference: words, or characters."""
        return self.hits + self.substitutions + self.deletions

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits a unit of the reference; above an empty reference, the edits themselves."""
        return self.edits / max(self.words, 1)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


NONE = Errors(0, 0, 0, 0)


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Edits on words of normalised texts."""
    return _errors(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Edits on characters of normalised texts."""
    return _errors(jiwer.process_characters(reference, hypothesis))


def _errors(found: jiwer.WordOutput | jiwer.CharacterOutput) -> Errors:
    return Errors(found.hits, found.substitutions, found.deletions, found.insertions)


def bootstrap_interval(
    errors: Sequence[Errors], draws: int = 1000, share: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The central `share` of pooled error rates over resampled utterances.

    Args:
        errors: one an utterance; at least one.

    Returns:
        (low, high) error rates.
    """
    edits = np.array([each.edits for each in errors])
    words = np.array([each.words for each in errors])
    chosen = np.random.default_rng(seed).integers(len(errors), size=(draws, len(errors)))
    rates = edits[chosen].sum(axis=1) / np.maximum(words[chosen].sum(axis=1), 1)
    tail = (1 - share) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)
