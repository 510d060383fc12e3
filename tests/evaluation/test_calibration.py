import numpy as np
import pytest

from whisfusion_jax.evaluation.calibration import Judged, auroc, calibration_error, judge
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.words import Word


def judged(*pairs: tuple[float, bool]) -> Judged:
    sure, right = zip(*pairs, strict=True)
    return Judged(np.array(sure), np.array(right))


def test_words_that_match_the_reference_are_right() -> None:
    words = [Word("The", 0.9, 1), Word("cat,", 0.8, 1), Word("sits", 0.3, 2), Word("[noise]", 1, 1)]
    found = judge("the cat sat", words, normaliser_for("en"))
    assert found.right.tolist() == [True, True, False]
    assert found.confidence.tolist() == [0.9, 0.8, 0.3]


def test_no_words_are_no_judgement() -> None:
    found = judge("the cat", [], normaliser_for("en"))
    assert len(found.right) == 0
    assert calibration_error(found) is None
    assert auroc(found) is None


def test_calibration_error_is_the_mean_gap() -> None:
    sure = judged(*[(0.75, True)] * 3, (0.75, False))
    assert calibration_error(sure) == pytest.approx(0)
    over = judged(*[(0.95, False)] * 2, *[(0.15, False)] * 2)
    assert calibration_error(over) == pytest.approx((0.95 + 0.15) / 2)


def test_auroc_counts_pairs() -> None:
    assert auroc(judged((0.9, True), (0.8, True), (0.1, False))) == 1
    assert auroc(judged((0.9, False), (0.1, True))) == 0
    assert auroc(judged((0.5, False), (0.5, True))) == 0.5
    random = np.random.default_rng(0)
    many = Judged(random.integers(5, size=60) / 5, random.random(60) < 0.6)
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a in many.confidence[many.right]
        for b in many.confidence[~many.right]
    ]
    assert auroc(many) == pytest.approx(np.mean(pairs))
