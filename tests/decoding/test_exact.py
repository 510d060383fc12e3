"""Whatever the draft, the text is Whisper's greedy one."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import TINY, TINY_RULES, with_random_adapters
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.decoding.autoregressive import Decoded, Vocabulary
from whisfusion_jax.decoding.branches import Branches, chain
from whisfusion_jax.decoding.drafting import DenoiserDrafter, Drafter, Known, drafter_of
from whisfusion_jax.decoding.exact import Verified, decode_exactly
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import Cache, CrossCache
from whisfusion_jax.models.denoiser import Denoiser, warm_denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import WhisperTokenizer

VOCABULARY = Vocabulary(TINY_RULES, end=256, no_speech=264)
PROMPTS = jnp.array([[257, 265]] * 3)
LENGTH, SIZE = 24, 4
CHAIN = chain(SIZE)
TREE = Branches(tuple(way for n in (1, 2, 3) for way in itertools.product(range(2), repeat=n)))
"""Both of two ways at each of three positions."""
SCRATCH = DenoiserConfig(
    vocabulary=TINY.vocabulary, width=24, heads=2, layers=1, audio_width=TINY.width, hidden=40,
    warm=False,
)  # fmt: skip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Told:
    """Drafts from a text that it is given."""

    text: jax.Array
    shift: int = field(default=0, metadata={"static": True})

    def prepare(self, audio: AudioStates, cross: CrossCache) -> jax.Array:
        return jnp.asarray(self.text)

    def __call__(
        self, prepared: jax.Array, known: Known, size: int, ways: int
    ) -> tuple[jax.Array, Cache]:
        text = jnp.pad(prepared, ((0, 0), (0, size)))
        at = known.count[:, None] - known.prompt + jnp.arange(size)
        told = jnp.take_along_axis(text, at, axis=1)[..., None]
        # Which of the ways is right differs from position to position.
        way = (jnp.arange(ways) + at[..., None]) % ways
        return (told + self.shift + way) % TINY.vocabulary, known.cache


def audio_of(seed: int) -> AudioStates:
    return AudioStates(jax.random.normal(jax.random.key(seed), (3, 11, TINY.width)), None)


def greedy(whisper: Whisper, audio: AudioStates) -> Decoded:
    return decode_greedily(whisper.decoder, audio, PROMPTS, VOCABULARY, LENGTH)


def exact(
    whisper: Whisper, drafter: Drafter, audio: AudioStates, branches: Branches = CHAIN
) -> Verified:
    return decode_exactly(whisper.decoder, drafter, audio, PROMPTS, VOCABULARY, branches, LENGTH)


def redrawn(model: Any, key: jax.Array) -> Any:
    """The same module with other weights, as large."""
    leaves, tree = jax.tree.flatten(model)
    drawn = [
        leaf.std() * jax.random.normal(jax.random.fold_in(key, i), leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, drawn)


def assert_same(found: Verified, expected: Decoded) -> None:
    np.testing.assert_array_equal(found.decoded.tokens, expected.tokens)
    np.testing.assert_allclose(found.decoded.logprobs, expected.logprobs, atol=1e-4)
    np.testing.assert_array_equal(found.decoded.no_speech, expected.no_speech)


@pytest.fixture(scope="module")
def shortlist(tokenizer_file: Path) -> Shortlist:
    # Without every third token: Whisper writes some that can't be drafted.
    tokens = [token for token in range(TINY.vocabulary) if token % 3 or token > 250]
    return Shortlist(np.array(tokens), WhisperTokenizer(tokenizer_file))


def warm(whisper: Whisper, shortlist: Shortlist) -> Denoiser:
    config = DenoiserConfig.of_whisper(TINY, len(shortlist), rank=4)
    tokens = jnp.asarray(shortlist.tokens)
    return with_random_adapters(warm_denoiser(whisper.decoder, config, tokens))


def scratch(whisper: Whisper, shortlist: Shortlist) -> Denoiser:
    return Denoiser(SCRATCH, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("passes", "branches"), [(1, CHAIN), (2, chain(3)), (1, TREE)])
@pytest.mark.parametrize("kind", [warm, scratch])
def test_a_denoiser_that_knows_nothing_changes_no_token(
    tiny_whisper: Whisper,
    shortlist: Shortlist,
    kind: Callable[[Whisper, Shortlist], Denoiser],
    passes: int,
    branches: Branches,
) -> None:
    audio = audio_of(0)
    drafter = drafter_of(
        kind(tiny_whisper, shortlist),
        shortlist,
        tiny_whisper.decoder,
        TINY_RULES.suppress,
        passes=passes,
    )
    found = exact(tiny_whisper, drafter, audio, branches)
    assert_same(found, greedy(tiny_whisper, audio))


def test_two_hundred_random_pairs(tiny_whisper: Whisper, shortlist: Shortlist) -> None:
    drafter = drafter_of(
        warm(tiny_whisper, shortlist), shortlist, tiny_whisper.decoder, TINY_RULES.suppress
    )

    @jax.jit
    def both(key: jax.Array) -> tuple[Verified, Decoded]:
        whisper = redrawn(tiny_whisper, jax.random.fold_in(key, 0))
        other = redrawn(drafter.denoiser, jax.random.fold_in(key, 1))
        audio = AudioStates(jax.random.normal(key, (3, 11, TINY.width)), None)
        found = exact(whisper, replace(drafter, denoiser=other), audio, TREE)
        return found, greedy(whisper, audio)

    for seed in range(200):
        assert_same(*both(jax.random.key(seed)))


def test_a_perfect_draft_takes_few_rounds_and_a_wrong_one_a_round_a_token(
    tiny_whisper: Whisper,
) -> None:
    audio = audio_of(0)
    expected = greedy(tiny_whisper, audio)
    lengths = jnp.minimum((expected.tokens != 256).sum(1) + 1, LENGTH)
    perfect = exact(tiny_whisper, Told(expected.tokens), audio)
    assert_same(perfect, expected)
    # The prompt's pass brings the first.
    np.testing.assert_array_equal(perfect.rounds, -(-(lengths - 1) // (SIZE + 1)))
    wrong = exact(tiny_whisper, Told(expected.tokens, shift=1), audio)
    assert_same(wrong, expected)
    np.testing.assert_array_equal(wrong.rounds, lengths - 1)
    for found in (perfect, wrong):
        np.testing.assert_array_equal(found.round_of.max(1), found.rounds)


def test_a_tree_finds_the_right_one_of_several_ways(tiny_whisper: Whisper) -> None:
    audio = audio_of(0)
    expected = greedy(tiny_whisper, audio)
    lengths = jnp.minimum((expected.tokens != 256).sum(1) + 1, LENGTH)
    found = exact(tiny_whisper, Told(expected.tokens), audio, TREE)
    assert_same(found, expected)
    np.testing.assert_array_equal(found.rounds, -(-(lengths - 1) // (TREE.size + 1)))
    alone = exact(tiny_whisper, Told(expected.tokens), audio, Branches(((0,), (1,), (0, 0))))
    assert_same(alone, expected)
    assert (alone.rounds > found.rounds).all()


def test_a_warm_drafter_reads_the_text_in_whispers_own_cache(
    tiny_whisper: Whisper, tokenizer_file: Path
) -> None:
    """Without adapters, and with one token at a time, the draft is Whisper's own next token."""
    everything = Shortlist(np.arange(TINY.vocabulary), WhisperTokenizer(tokenizer_file))
    config = DenoiserConfig.of_whisper(TINY, rank=4)
    denoiser = warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))
    drafter = drafter_of(denoiser, everything, tiny_whisper.decoder, TINY_RULES.suppress)
    audio = audio_of(0)
    found = decode_exactly(
        tiny_whisper.decoder, drafter, audio, PROMPTS, VOCABULARY, chain(1), LENGTH
    )
    expected = greedy(tiny_whisper, audio)
    assert_same(found, expected)
    lengths = jnp.minimum((expected.tokens != 256).sum(1) + 1, LENGTH)
    np.testing.assert_array_equal(found.rounds, -(-(lengths - 1) // 2))


def test_a_row_does_not_depend_on_its_neighbours(
    tiny_whisper: Whisper, shortlist: Shortlist
) -> None:
    audio = audio_of(3)
    drafter: DenoiserDrafter = drafter_of(
        warm(tiny_whisper, shortlist), shortlist, tiny_whisper.decoder, TINY_RULES.suppress
    )
    together = exact(tiny_whisper, drafter, audio)
    for row in range(3):
        one = AudioStates(audio.states[row : row + 1], None)
        alone = decode_exactly(
            tiny_whisper.decoder, drafter, one, PROMPTS[:1], VOCABULARY, CHAIN, LENGTH
        )
        np.testing.assert_array_equal(alone.decoded.tokens[0], together.decoded.tokens[row])
        assert alone.rounds[0] == together.rounds[row]


def test_a_denoiser_of_another_whisper_is_refused(
    tiny_whisper: Whisper, shortlist: Shortlist
) -> None:
    other = Denoiser(replace(SCRATCH, audio_width=48), rngs=nnx.Rngs(0))
    with pytest.raises(WhisfusionError, match="made for another Whisper"):
        drafter_of(other, shortlist, tiny_whisper.decoder, ())
