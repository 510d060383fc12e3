from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, TINY_RULES
from whisfusion_jax.decoding.autoregressive import Decoded
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper

VOCABULARY = Vocabulary(TINY_RULES, end=256, no_speech=264)
PROMPT = [257, 265]
LENGTH = 24


@pytest.fixture(scope="module")
def audio(tiny_whisper: Whisper) -> AudioStates:
    mel = np.random.default_rng(1).normal(size=(2, 3000, TINY.mel_bins)).astype(np.float32)
    return tiny_whisper.encoder(jnp.asarray(mel))


@pytest.fixture(scope="module")
def decoded(tiny_whisper: Whisper, audio: AudioStates) -> Decoded:
    prompt = jnp.array([PROMPT, PROMPT])
    cross = tiny_whisper.decoder.cross_cache(audio)
    return decode_greedily(tiny_whisper.decoder, cross, prompt, VOCABULARY, LENGTH)


def test_equals_transformers(decoded: Decoded, recorded: Mapping[str, np.ndarray]) -> None:
    expected = recorded["greedy"]
    np.testing.assert_array_equal(decoded.tokens[:, : expected.shape[1]], expected)


def test_equals_decoding_without_a_cache(
    tiny_whisper: Whisper, audio: AudioStates, decoded: Decoded
) -> None:
    """Each token is the likeliest allowed one after all that stand before it."""
    decoder = tiny_whisper.decoder
    for row in range(2):
        one = AudioStates(audio.states[row : row + 1], None)
        text = decoded.tokens[row].tolist()
        tokens = jnp.array([PROMPT + text])
        size = tokens.shape[1]
        hidden, _ = decoder(tokens, decoder.empty_cache(1, size), 0, decoder.cross_cache(one))
        logits = np.array(decoder.logits(hidden)[0, len(PROMPT) - 1 : -1])
        logits[:, list(TINY_RULES.suppress)] = -np.inf
        logits[0, list(TINY_RULES.suppress_first)] = -np.inf
        written = text.index(256) + 1 if 256 in text else LENGTH
        assert logits.argmax(-1)[:written].tolist() == text[:written]
        logprobs = jax.nn.log_softmax(logits)[np.arange(LENGTH), text]
        np.testing.assert_allclose(decoded.logprobs[row, :written], logprobs[:written], atol=1e-4)
        assert not decoded.logprobs[row, written:].any()


def test_a_row_does_not_depend_on_its_neighbours(
    tiny_whisper: Whisper, audio: AudioStates, decoded: Decoded
) -> None:
    for row in range(2):
        one = AudioStates(audio.states[row : row + 1], None)
        decoder, prompt = tiny_whisper.decoder, jnp.array([PROMPT])
        alone = decode_greedily(decoder, decoder.cross_cache(one), prompt, VOCABULARY, LENGTH)
        np.testing.assert_array_equal(alone.tokens[0], decoded.tokens[row])


def test_stops_when_all_rows_have_ended(tiny_whisper: Whisper, audio: AudioStates) -> None:
    """With the end token raised, nothing follows it and no step is wasted."""
    eager = jax.tree.map(lambda x: x, tiny_whisper.decoder)
    only_end = tuple(token for token in range(TINY.vocabulary) if token not in (7, 256))
    vocabulary = Vocabulary(TINY_RULES.__class__(only_end, (256,)), end=256, no_speech=264)
    cross, prompt = eager.cross_cache(audio), jnp.array([PROMPT, PROMPT])
    result = decode_greedily(eager, cross, prompt, vocabulary, LENGTH)
    for row in result.tokens.tolist():
        assert row[0] == 7
        end = row.index(256) if 256 in row else LENGTH
        assert row == [7] * end + [256] * (LENGTH - end)
    lengths = [(np.array(row) != 256).sum() for row in result.tokens]
    assert int(result.steps) == min(max(lengths), LENGTH - 1)


def test_names_the_language(tiny_whisper: Whisper, audio: AudioStates) -> None:
    """-1 in the prompt is filled by the likeliest language token after the start token."""
    vocabulary = Vocabulary(TINY_RULES, end=256, no_speech=264, languages=(258, 259))
    prompt = jnp.array([[257, -1, 261, 265], [257, 259, 261, 265]])
    decoder, cross = tiny_whisper.decoder, tiny_whisper.decoder.cross_cache(audio)
    result = decode_greedily(decoder, cross, prompt, vocabulary, LENGTH)
    hidden, _ = decoder(prompt[:, :1], decoder.empty_cache(2, 1), 0, cross)
    heard = 258 + int(decoder.logits(hidden)[0, 0, 258:260].argmax())
    assert result.language.tolist() == [heard, 259]
    given = decode_greedily(decoder, cross, prompt.at[0, 1].set(heard), vocabulary, LENGTH)
    np.testing.assert_array_equal(given.tokens, result.tokens)
