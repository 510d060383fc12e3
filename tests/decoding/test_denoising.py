"""The denoising loop on a model of random weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, draws_of, with_random_adapters
from whisfusion_jax.config import DenoiserConfig, TokenRules
from whisfusion_jax.decoding.denoising import (
    FREE,
    Denoised,
    DenoisingSettings,
    denoise,
)
from whisfusion_jax.decoding.drafts import UNKNOWN
from whisfusion_jax.decoding.stretches import Stretches, denoise_by_stretches
from whisfusion_jax.decoding.unmasking import (
    Mend,
    PositionBiased,
    RandomRemask,
    Threshold,
    TopN,
    UnmaskingRule,
)
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.denoiser import Denoiser, warm_denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.transcription.winner import edit_distance, pick_winner

N, END = 12, 256
RULES = (
    TopN(4), TopN(4, "cosine"), TopN(4, rewrites=True), Threshold(0.05), RandomRemask(),
    PositionBiased(), Mend(4, 0.05),
)  # fmt: skip


@pytest.fixture(scope="module")
def untrained(tiny_whisper: Whisper) -> Denoiser:
    config = DenoiserConfig.of_decoder(TINY, rank=4)
    return warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))


@pytest.fixture(scope="module")
def denoiser(untrained: Denoiser) -> Denoiser:
    return with_random_adapters(untrained)


def run(
    denoiser: Denoiser, rule: UnmaskingRule, rows: list[int], given: dict | None = None, **settings
) -> Denoised:
    """Decode utterances by number; each number has its own audio and key."""
    audio, prompt, keys, chosen = inputs(rule, rows, **settings)
    fixed = np.full((len(rows), N), FREE)
    for position, token in (given or {}).items():
        fixed[:, position] = token
    cross = denoiser.cross_cache(audio)
    return denoise(denoiser, cross, prompt, jnp.asarray(fixed), draws_of(keys), chosen)


def run_by_stretches(
    denoiser: Denoiser,
    rule: UnmaskingRule,
    rows: list[int],
    stretch: int,
    mended: bool = True,
    **settings,
) -> Denoised:
    audio, prompt, keys, chosen = inputs(rule, rows, **settings)
    how = Stretches(chosen, N, stretch, mended)
    cross = denoiser.cross_cache(audio)
    return denoise_by_stretches(denoiser, cross, prompt, draws_of(keys), how)[0]


def inputs(
    rule: UnmaskingRule, rows: list[int], **settings
) -> tuple[AudioStates, jax.Array, jax.Array, DenoisingSettings]:
    states = jnp.stack([jax.random.normal(jax.random.key(row), (7, TINY.width)) for row in rows])
    keys = jnp.stack([jax.random.fold_in(jax.random.key(5), row) for row in rows])
    vocabulary = Vocabulary(TokenRules((3, *range(257, 266))), END)
    chosen = DenoisingSettings(vocabulary, rule, **settings)
    prompt = jnp.full((len(rows), 2), 257)
    return AudioStates(states, None), prompt, keys, chosen


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_canvases_come_out_full_and_accounted_for(denoiser: Denoiser, rule: UnmaskingRule) -> None:
    found = run(denoiser, rule, [0, 1, 2])
    tokens, fixed_at = np.asarray(found.tokens), np.asarray(found.fixed_at)
    assert ((tokens >= 0) & (tokens <= END) & (tokens != 3)).all()
    assert ((fixed_at >= 1) & (fixed_at <= rule.steps)).all()
    assert (found.steps <= rule.steps).all()
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_neighbours_in_the_batch_change_nothing(denoiser: Denoiser, rule: UnmaskingRule) -> None:
    options = {"candidates": 2, "temperature": 1.0}
    together = run(denoiser, rule, [4, 5, 6], **options)
    for i, row in enumerate((4, 5, 6)):
        alone = run(denoiser, rule, [row], **options)
        np.testing.assert_array_equal(together.tokens[i], alone.tokens[0])
        np.testing.assert_array_equal(together.steps[i], alone.steps[0])


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_given_tokens_stand(denoiser: Denoiser, rule: UnmaskingRule) -> None:
    found = run(denoiser, rule, [0, 1], given={0: 65, 5: 66}, candidates=2)
    assert (found.tokens[..., 0] == 65).all()
    assert (found.tokens[..., 5] == 66).all()
    assert (found.fixed_at[..., [0, 5]] == 0).all()
    assert (found.confidence[..., [0, 5]] == 1).all()


def test_one_step_is_the_likeliest_token_everywhere(denoiser: Denoiser) -> None:
    a, b = run(denoiser, TopN(1), [0, 1]), run(denoiser, RandomRemask((1.0,)), [0, 1])
    np.testing.assert_array_equal(a.tokens, b.tokens)


@pytest.mark.parametrize(
    "rule", [TopN(1, rewrites=True), Mend(1), Mend(4, confidence=0.0)], ids=repr
)
def test_what_is_drafted_is_read_and_written_anew(
    tiny_whisper: Whisper, rule: UnmaskingRule
) -> None:
    config = DenoiserConfig.of_decoder(TINY, rank=0, both_ways=True)
    denoiser = warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))
    audio, prompt, keys, settings = inputs(rule, [0, 1])
    cross = denoiser.cross_cache(audio)
    drafts = np.random.default_rng(0).integers(60, 99, (2, N))
    drafts[:, 4], drafts[:, 9:] = UNKNOWN, END
    free = jnp.full((2, N), FREE)
    draws = draws_of(keys)
    found = denoise(denoiser, cross, prompt, free, draws, settings, jnp.asarray(drafts))
    canvas = jnp.where(drafts == UNKNOWN, denoiser.mask_token, drafts)[:, None]
    logits = denoiser.logits(denoiser(prompt, canvas, cross))[:, 0]
    expected = settings.vocabulary.allowed(logits, first=jnp.arange(N) == 0).argmax(-1)
    ended = np.cumsum(expected == END, axis=1) > 0
    np.testing.assert_array_equal(found.tokens[:, 0], np.where(ended, END, expected))
    assert (found.steps == 1).all()


def test_what_is_sure_from_the_start_is_mended_no_further(tiny_whisper: Whisper) -> None:
    """A row that is done doesn't change for a neighbour that isn't."""
    config = DenoiserConfig.of_decoder(TINY, rank=0, both_ways=True)
    denoiser = warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))
    together = run(denoiser, Mend(6, 0.02), [0, 1, 2, 3, 4])
    for row in range(5):
        alone = run(denoiser, Mend(6, 0.02), [row])
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_array_equal(together.steps[row], alone.steps[0])


def test_candidates_differ_where_a_rule_or_a_temperature_draws(denoiser: Denoiser) -> None:
    for rule, temperature in ((RandomRemask(), 0.0), (TopN(4), 2.0)):
        found = run(denoiser, rule, [0], candidates=4, temperature=temperature)
        assert len({tuple(row) for row in np.asarray(found.tokens[0]).tolist()}) > 1
    alike = run(denoiser, TopN(4), [0], candidates=3)
    assert (alike.tokens[0] == alike.tokens[0, :1]).all()


def test_a_stretch_writes_the_canvas_strictly_from_left_to_right(
    untrained: Denoiser,
) -> None:
    rule = PositionBiased(9.0, bias=100.0, revise=0)
    whole = run(untrained, rule, [0, 1, 2, 3])
    assert 2 < whole.steps.max() < N
    for stretch in (6, N + 2):
        found = run_by_stretches(untrained, rule, [0, 1, 2, 3], stretch, mended=False)
        np.testing.assert_array_equal(found.tokens, whole.tokens)


def test_candidates_of_stretches_differ_and_keep_to_themselves(denoiser: Denoiser) -> None:
    options = {"stretch": 6, "candidates": 3, "temperature": 2.0}
    together = run_by_stretches(denoiser, Threshold(0.5), [4, 5], **options)
    alone = run_by_stretches(denoiser, Threshold(0.5), [5], **options)
    np.testing.assert_array_equal(together.tokens[1], alone.tokens[0])
    assert len({tuple(row) for row in np.asarray(alone.tokens[0]).tolist()}) == 3


def test_what_whisper_would_not_say_is_revised(untrained: Denoiser) -> None:
    rows = [0, 1, 2, 3, 4, 5]
    greedy = run_by_stretches(untrained, PositionBiased(0.0, bias=100.0), rows, stretch=4)
    ahead = PositionBiased(9.0, bias=100.0, revise=0)
    loose = run_by_stretches(untrained, ahead, rows, stretch=6)
    strict = run_by_stretches(untrained, dataclasses.replace(ahead, revise=1.0), rows, stretch=6)
    assert (loose.tokens != greedy.tokens).any()
    np.testing.assert_array_equal(strict.tokens, greedy.tokens)
    np.testing.assert_allclose(strict.confidence, greedy.confidence, atol=1e-5)
    assert strict.steps.mean() < greedy.steps.mean()


def test_a_stricter_threshold_takes_more_steps(denoiser: Denoiser) -> None:
    assert (run(denoiser, Threshold(0.0), [0]).steps == 1).all()
    assert run(denoiser, Threshold(1.0), [0]).steps.max() > 1


def test_mbr_takes_the_middle_and_confidence_the_surest() -> None:
    texts = ["the cat sat", "the cat sat down", "a dog ran off", "the cat sat down"]
    sure = [np.full(3, p) for p in (0.5, 0.6, 0.9, 0.6)]
    assert pick_winner(texts, sure, "mbr", "en") == 1
    assert pick_winner(texts, sure, "confidence", "en") == 2
    assert pick_winner(["今日は", "今日わ", "今日はね"], [np.ones(3)] * 3, "mbr", "ja") == 0


def test_edit_distance_counts_edits() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
