"""Each rule on small canvases that can be checked by eye."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from whisfusion_jax.decoding.unmasking import (
    Mend,
    PositionBiased,
    RandomRemask,
    Threshold,
    TopN,
    UnmaskingRule,
    Written,
    rule_of,
)
from whisfusion_jax.errors import WhisfusionError


def remasked(rule: UnmaskingRule, step: int = 0, **fields: list) -> list[bool]:
    n = len(fields["confidence"])
    row = {
        "free": [True] * n, "masked": [True] * n, "live": [True] * n, "entropy": [0.0] * n, **fields
    }  # fmt: skip
    written = Written(**{k: jnp.array([v]) for k, v in row.items()}, keys=jax.random.split(
        jax.random.key(0), 1
    ))  # fmt: skip
    return np.asarray(rule.remask(jnp.int32(step), written))[0].tolist()


def test_threshold_keeps_what_is_confident() -> None:
    assert remasked(Threshold(0.9), confidence=[0.95, 0.5, 0.9, 0.2]) == [False, True, False, True]


def test_mend_masks_again_what_is_unsure_up_to_the_end() -> None:
    live = [True, True, True, False]
    assert remasked(Mend(4, 0.5), confidence=[0.4, 0.5, 0.1, 0.1], live=live) == [
        True, False, True, False,
    ]  # fmt: skip


def test_threshold_keeps_at_least_one() -> None:
    assert remasked(Threshold(0.9), confidence=[0.1, 0.5, 0.5]) == [True, False, True]


def test_threshold_never_asks_again() -> None:
    kept = remasked(Threshold(0.9), confidence=[0.1, 0.3, 0.2], masked=[False, True, True])
    assert kept == [False, False, True]


@pytest.mark.parametrize(("step", "kept"), [(0, 1), (1, 2), (2, 3), (3, 4)])
def test_top_n_keeps_more_at_each_step(step: int, kept: int) -> None:
    masked = remasked(TopN(4), step, confidence=[0.4, 0.1, 0.3, 0.2])
    assert masked == [rank >= kept for rank in (0, 3, 1, 2)]


def test_a_bias_keeps_the_left_first() -> None:
    confidence = [0.5, 0.4, 0.9, 0.3]
    assert remasked(TopN(2, bias=10.0), 0, confidence=confidence) == [False, False, True, True]


def test_top_n_counts_no_padding() -> None:
    live = [True, True, False, False]
    masked = remasked(TopN(2), 0, confidence=[0.4, 0.1, 0.9, 0.9], live=live)
    assert masked == [False, True, True, True]


def test_random_remask_spares_what_is_given_and_ends_with_nothing() -> None:
    rule = RandomRemask((1.0, 1.0, 0.5))
    free = [False, True, True, True]
    assert remasked(rule, 0, confidence=[0.5] * 4, free=free) == free
    assert remasked(rule, 2, confidence=[0.5] * 4, free=free) == [False] * 4


def test_position_biased_takes_the_longest_prefix_within_the_bound() -> None:
    # In order of position; the largest entropy is free, the others sum to at most 0.05.
    entropy = [0.03, 0.5, 0.02, 0.01]
    masked = remasked(PositionBiased(0.05, bias=10.0), confidence=[0.5] * 4, entropy=entropy)
    assert masked == [False, False, False, True]


def test_position_biased_prefers_the_left() -> None:
    masked = remasked(PositionBiased(0.0, bias=0.2), confidence=[0.5, 0.55, 0.5], entropy=[0.5] * 3)
    assert masked == [False, True, True]


def test_position_biased_keeps_pace_with_its_steps() -> None:
    rule, unsure = PositionBiased(0.0, bias=10.0, steps=5), [9.0] * 6
    ended = [True] * 4 + [False] * 2
    # Four are left, first for five steps, then for two, for one; behind the end nothing counts.
    fields = {"confidence": [0.5] * 6, "entropy": unsure, "live": ended}
    assert remasked(rule, 0, **fields) == [False] + [True] * 5
    assert remasked(rule, 3, **fields) == [False] * 2 + [True] * 4
    assert remasked(rule, 4, **fields) == [False] * 4 + [True] * 2


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(WhisfusionError, match="0 steps"):
        TopN(0)
    with pytest.raises(WhisfusionError, match=r"confidence 1.5 is not between 0 and 1"):
        Threshold(1.5)


def test_rules_by_name() -> None:
    assert rule_of("threshold", 5, 0.5) == Threshold(revise=0.5, steps=5)
    assert rule_of("pbeb") == PositionBiased()
    assert rule_of("top_n", 3) == TopN(3)
    assert rule_of("random_remask", 3).rates == (1.0, 0.9, 0.8)
    with pytest.raises(WhisfusionError, match="top_n has nothing to revise"):
        rule_of("top_n", revise=0.5)
    with pytest.raises(WhisfusionError, match=r"revise 2 is not between 0 and 1"):
        rule_of("pbeb", revise=2)
