"""Whatever is written ahead, at `revise` 1 the text is Whisper's greedy one."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import TINY, TINY_RULES, draws_of, with_random_adapters
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.decoding.autoregressive import Decoded, Start
from whisfusion_jax.decoding.denoising import FREE, Denoised, DenoisingSettings
from whisfusion_jax.decoding.drafts import UNKNOWN, Draft
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.repairing import Repairs, repair
from whisfusion_jax.decoding.stretches import Stretches, denoise_by_stretches
from whisfusion_jax.decoding.unmasking import PositionBiased, Threshold, UnmaskingRule
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import (
    Denoiser,
    on_decoder,
    untrained_denoiser,
    warm_denoiser,
)
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper

END, LENGTH, SIZE = 256, 24, 5
VOCABULARY = Vocabulary(TINY_RULES, end=END, no_speech=264)
PROMPTS = jnp.array([[257, 265]] * 3)
KEYS = draws_of(jax.random.split(jax.random.key(0), 3))
MASKS = PositionBiased(9.0, revise=1.0)
"""Writes ahead what masks say."""
NO_MASKS = PositionBiased(0.0, revise=1.0)

Found = tuple[Denoised, Start]


def audio_of(seed: int) -> AudioStates:
    return AudioStates(jax.random.normal(jax.random.key(seed), (3, 11, TINY.width)), None)


def greedy(decoder: Decoder, audio: AudioStates, prompt: jax.Array = PROMPTS) -> Decoded:
    return decode_greedily(decoder, decoder.cross_cache(audio), prompt, VOCABULARY, LENGTH)


def exact(
    denoiser: Denoiser,
    audio: AudioStates,
    draft: jax.Array | None = None,
    rule: UnmaskingRule = MASKS,
    vocabulary: Vocabulary = VOCABULARY,
    prompt: jax.Array = PROMPTS,
    standing: jax.Array | None = None,
) -> Found:
    how = Stretches(DenoisingSettings(vocabulary, rule), LENGTH, SIZE, mended=False)
    cross = denoiser.cross_cache(audio)
    return denoise_by_stretches(denoiser, cross, prompt, KEYS, how, draft, standing=standing)


def mended(
    denoiser: Denoiser, audio: AudioStates, draft: jax.Array, sure: jax.Array, size: int = SIZE,
    vocabulary: Vocabulary = VOCABULARY, prompt: jax.Array = PROMPTS,
    standing: jax.Array | None = None,
) -> Found:  # fmt: skip
    """By a draft that each pass repairs."""
    end, wanted = jnp.full((len(draft), 1), END), jnp.ones(len(draft), bool)
    text = Draft(jnp.concatenate([draft[:, :-1], end], axis=1), sure)
    how = Repairs(vocabulary, LENGTH, size, steps=LENGTH)
    cross = denoiser.cross_cache(audio)
    return repair(denoiser, cross, prompt[: len(draft)], text, how, wanted, standing)


def redrawn(model: Any, key: jax.Array) -> Any:
    """The same module with other weights, as large."""
    leaves, tree = jax.tree.flatten(model)
    drawn = [
        leaf.std() * jax.random.normal(jax.random.fold_in(key, i), leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, drawn)


def assert_same(found: Found, expected: Decoded) -> None:
    denoised, said = found
    np.testing.assert_array_equal(denoised.tokens[:, 0], expected.tokens)
    written = np.arange(LENGTH) < lengths_of(expected)[:, None]
    logprobs = np.log(np.where(written, denoised.confidence[:, 0], 1))
    np.testing.assert_allclose(logprobs, expected.logprobs, atol=1e-4)
    np.testing.assert_allclose(said.no_speech, expected.no_speech, rtol=1e-5)


def lengths_of(expected: Decoded) -> np.ndarray:
    """Tokens of each text, its end among them."""
    return np.minimum((np.asarray(expected.tokens) != END).sum(1) + 1, LENGTH)


def passes_of(found: Found) -> np.ndarray:
    return np.asarray(found[0].steps)[:, 0]


def knows_nothing(decoder: Decoder) -> Denoiser:
    config = DenoiserConfig.of_decoder(TINY, rank=4)
    drawn = with_random_adapters(warm_denoiser(decoder, config, jnp.arange(TINY.vocabulary)))
    return on_decoder(drawn, decoder)


@pytest.fixture(scope="module")
def denoiser(tiny_whisper: Whisper) -> Denoiser:
    return knows_nothing(tiny_whisper.decoder)


@pytest.mark.parametrize("rule", [MASKS, NO_MASKS, Threshold(0.01, revise=1.0)], ids=repr)
def test_a_denoiser_that_knows_nothing_changes_no_token(
    tiny_whisper: Whisper, denoiser: Denoiser, rule: UnmaskingRule
) -> None:
    audio = audio_of(0)
    assert_same(exact(denoiser, audio, rule=rule), greedy(tiny_whisper.decoder, audio))


@pytest.mark.parametrize("drafted", [False, True])
def test_a_text_that_is_begun_goes_on_as_whispers(
    tiny_whisper: Whisper, denoiser: Denoiser, drafted: bool
) -> None:
    audio = audio_of(1)
    expected = greedy(tiny_whisper.decoder, audio)
    draft = expected.tokens if drafted else None
    whole = passes_of(exact(denoiser, audio, draft, rule=NO_MASKS))
    for counts in ([0, 1, 3], [2, 7, 100]):
        count = np.minimum(counts, lengths_of(expected) - 1)
        begun = jnp.arange(LENGTH) < count[:, None]
        standing = jnp.where(begun, expected.tokens, FREE)
        found = exact(denoiser, audio, draft, rule=NO_MASKS, standing=standing)
        np.testing.assert_array_equal(found[0].tokens[:, 0], expected.tokens)
        assert (np.asarray(found[0].confidence[:, 0])[begun] == 1).all()
        assert (np.asarray(found[0].fixed_at[:, 0])[begun] == 0).all()
        if not drafted:
            assert (passes_of(found) == np.maximum(whole - count, 1)).all()


@pytest.mark.parametrize("drafted", ["rightly", "wrongly", "shifted"])
def test_a_text_that_is_begun_is_repaired_behind_what_stands(
    tiny_whisper: Whisper, denoiser: Denoiser, drafted: str
) -> None:
    audio = audio_of(1)
    expected = greedy(tiny_whisper.decoder, audio)
    drafts = {"rightly": 0, "wrongly": expected.tokens[:, ::-1] - expected.tokens, "shifted": 0}
    draft = (expected.tokens + drafts[drafted]) % END
    draft = jnp.roll(draft, 2, axis=1) if drafted == "shifted" else draft
    sure = jnp.full(draft.shape, 0.5)
    whole = passes_of(mended(denoiser, audio, draft, sure))
    for counts in ([0, 1, 3], [2, 7, 100]):
        count = np.minimum(counts, lengths_of(expected) - 1)
        begun = jnp.arange(LENGTH) < count[:, None]
        standing = jnp.where(begun, expected.tokens, FREE)
        found = mended(denoiser, audio, draft, sure, standing=standing)
        np.testing.assert_array_equal(found[0].tokens[:, 0], expected.tokens)
        assert (np.asarray(found[0].confidence[:, 0])[begun] == 1).all()
        assert (np.asarray(found[0].fixed_at[:, 0])[begun] == 0).all()
        assert (passes_of(found) <= whole).all()
        if drafted == "rightly":
            left = lengths_of(expected) - count
            assert (passes_of(found) == np.maximum(-(-left // SIZE), 1)).all()


def test_two_hundred_random_pairs(tiny_whisper: Whisper, denoiser: Denoiser) -> None:
    @jax.jit
    def both(key: jax.Array) -> tuple[Found, Decoded]:
        decoder = redrawn(tiny_whisper.decoder, jax.random.fold_in(key, 0))
        other = on_decoder(redrawn(denoiser, jax.random.fold_in(key, 1)), decoder)
        audio = AudioStates(jax.random.normal(key, (3, 11, TINY.width)), None)
        expected = greedy(decoder, audio)
        # A draft that is right now and then, and shifted by a token that is put in.
        noise = jax.random.randint(key, expected.tokens.shape, UNKNOWN, END)
        draft = jnp.where(jax.random.bernoulli(key, 0.2, noise.shape), noise, expected.tokens)
        return exact(other, audio, draft), expected

    for seed in range(200):
        assert_same(*both(jax.random.key(seed)))


@pytest.mark.parametrize("size", [SIZE, LENGTH])
def test_whatever_is_repaired_the_text_is_whispers(
    tiny_whisper: Whisper, denoiser: Denoiser, size: int
) -> None:
    @jax.jit
    def both(key: jax.Array) -> tuple[Found, Decoded]:
        decoder = redrawn(tiny_whisper.decoder, jax.random.fold_in(key, 0))
        other = on_decoder(redrawn(denoiser, key), decoder)
        audio = AudioStates(jax.random.normal(key, (3, 11, TINY.width)), None)
        expected = greedy(decoder, audio)
        noise = jax.random.randint(key, expected.tokens.shape, 0, END + 1)
        draft = jnp.where(jax.random.bernoulli(key, 0.2, noise.shape), noise, expected.tokens)
        sure = jax.random.uniform(key, draft.shape)
        return mended(other, audio, draft, sure, size), expected

    for seed in range(50):
        assert_same(*both(jax.random.key(seed)))


def test_a_perfect_draft_takes_few_passes_and_a_wrong_one_a_pass_a_token(
    tiny_whisper: Whisper, denoiser: Denoiser
) -> None:
    audio = audio_of(0)
    expected = greedy(tiny_whisper.decoder, audio)
    lengths = lengths_of(expected)
    perfect = exact(denoiser, audio, expected.tokens, NO_MASKS)
    assert_same(perfect, expected)
    np.testing.assert_array_equal(passes_of(perfect), -(-lengths // SIZE))
    repaired = mended(denoiser, audio, expected.tokens, jnp.full((3, LENGTH), 0.5))
    assert_same(repaired, expected)
    np.testing.assert_array_equal(passes_of(repaired), -(-lengths // SIZE))
    wrong = exact(denoiser, audio, (expected.tokens + 1) % END, NO_MASKS)
    assert_same(wrong, expected)
    np.testing.assert_array_equal(passes_of(wrong), lengths)
    for found in (perfect, wrong):
        np.testing.assert_array_equal(found[0].fixed_at[:, 0].max(1), passes_of(found))


def test_a_draft_that_lacks_a_token_is_found_again(
    tiny_whisper: Whisper, denoiser: Denoiser
) -> None:
    audio = audio_of(0)
    expected = greedy(tiny_whisper.decoder, audio)
    without = jnp.delete(expected.tokens, 3, axis=1)
    found = exact(denoiser, audio, without, NO_MASKS)
    assert_same(found, expected)
    # One pass more than a perfect draft takes, or two.
    assert (passes_of(found) <= -(-lengths_of(expected) // SIZE) + 2).all()


def test_a_denoiser_without_adapters_needs_no_training(tiny_whisper: Whisper) -> None:
    plain = untrained_denoiser(DenoiserConfig.of_decoder(TINY, rank=0))
    audio = audio_of(1)
    expected = greedy(tiny_whisper.decoder, audio)
    found = exact(on_decoder(plain, tiny_whisper.decoder), audio, expected.tokens, NO_MASKS)
    assert_same(found, expected)


def test_a_denoiser_in_tiles_reads_greedily_as_whisper_does(tiny_whisper: Whisper) -> None:
    reader, audio = knows_nothing(tiny_whisper.decoder), audio_of(2)
    reader.read_in_tiles()
    found = decode_greedily(reader, reader.cross_cache(audio), PROMPTS, VOCABULARY, LENGTH)
    expected = greedy(tiny_whisper.decoder, audio)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-4)
    np.testing.assert_allclose(found.no_speech, expected.no_speech, rtol=1e-5)


def test_the_language_is_heard_as_whisper_hears_it(
    tiny_whisper: Whisper, denoiser: Denoiser
) -> None:
    several = replace(VOCABULARY, languages=(258, 259))
    prompt = jnp.array([[257, -1, 261, 265], [257, 259, 261, 265], [257, -1, 261, 265]])
    audio = audio_of(3)
    cross = tiny_whisper.decoder.cross_cache(audio)
    expected = decode_greedily(tiny_whisper.decoder, cross, prompt, several, LENGTH)
    draft = jnp.roll(expected.tokens, 1, axis=1)
    for found in (
        exact(denoiser, audio, vocabulary=several, prompt=prompt),
        mended(denoiser, audio, draft, jnp.full(draft.shape, 0.5), SIZE, several, prompt),
    ):
        assert_same(found, expected)
        np.testing.assert_array_equal(found[1].prompt[:, 1], expected.language)


def test_a_row_does_not_depend_on_its_neighbours(tiny_whisper: Whisper, denoiser: Denoiser) -> None:
    audio = audio_of(4)
    draft = jnp.roll(greedy(tiny_whisper.decoder, audio).tokens, 1, axis=0)
    together = exact(denoiser, audio, draft)
    sure = jnp.full(draft.shape, 0.5)
    all_mended, _ = mended(denoiser, audio, draft, sure)
    for row in range(3):
        one = AudioStates(audio.states[row : row + 1], None)
        how = Stretches(DenoisingSettings(VOCABULARY, MASKS), LENGTH, SIZE, mended=False)
        own = draws_of(KEYS.keys[row : row + 1])
        cross, drafted = denoiser.cross_cache(one), draft[row : row + 1]
        alone, _ = denoise_by_stretches(denoiser, cross, PROMPTS[:1], own, how, drafted)
        np.testing.assert_array_equal(alone.tokens[0], together[0].tokens[row])
        assert alone.steps[0] == together[0].steps[row]
        alone, _ = mended(denoiser, one, drafted, sure[row : row + 1])
        np.testing.assert_array_equal(alone.tokens[0], all_mended.tokens[row])
        assert alone.steps[0] == all_mended.steps[row]


def test_a_denoiser_of_another_whisper_is_refused(tiny_whisper: Whisper) -> None:
    other = DenoiserConfig.of_decoder(replace(TINY, width=48), rank=4)
    with pytest.raises(WhisfusionError, match="made for another Whisper"):
        on_decoder(Denoiser(other, rngs=nnx.Rngs(0)), tiny_whisper.decoder)
