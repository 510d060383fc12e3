"""Whether a word's confidence says how likely it is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from whisfusion_jax.transcription.words import Word


@dataclass(frozen=True)
class Judged:
    """Words of hypotheses, each right or wrong."""

    confidence: np.ndarray
    """[words] float64 in [0, 1]."""
    right: np.ndarray
    """[words] bool."""

    @classmethod
    def together(cls, parts: Sequence["Judged"]) -> "Judged":
        return cls(
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.right for part in parts]),
        )


def judge(reference: str, words: Sequence[Word], normalise: Callable[[str], str]) -> Judged:
    """Align a hypothesis's words with the reference; those that match are right.

    Args:
        reference: normalised.
        words: each is normalised by itself, and may so become none or several.
    """
    parts = [(part, word.confidence) for word in words for part in normalise(word.text).split()]
    confidence = np.array([sure for _, sure in parts])
    right = np.zeros(len(parts), bool)
    if parts:
        found = jiwer.process_words(reference, " ".join(part for part, _ in parts))
        for chunk in found.alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = True
    return Judged(confidence, right)


def calibration_error(judged: Judged, bins: int = 10) -> float | None:
    """Expected calibration error: |share right - mean confidence|, averaged over equal bins.

    Naeini et al., 2015. None without words.
    """
    if not len(judged.right):
        return None
    place = np.minimum((judged.confidence * bins).astype(int), bins - 1)
    error = 0.0
    for each in range(bins):
        inside = place == each
        if inside.any():
            gap = abs(judged.right[inside].mean() - judged.confidence[inside].mean())
            error += inside.mean() * gap
    return float(error)


def auroc(judged: Judged) -> float | None:
    """Probability that a right word is surer than a wrong one, ties half; None without either."""
    right = judged.confidence[judged.right]
    wrong = judged.confidence[~judged.right]
    if not len(right) or not len(wrong):
        return None
    below = np.searchsorted(np.sort(wrong), right, side="left")
    up_to = np.searchsorted(np.sort(wrong), right, side="right")
    return float((below + up_to).mean() / 2 / len(wrong))
