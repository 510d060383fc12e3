"""When words are spoken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES
from tests.support import TINY
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.transcription.alignment import beginnings
from whisfusion_jax.transcription.decoders import DecoderName

HEADS = ((0, 1), (1, 0), (1, 1))
FRAMES, TOKENS = 40, 8
SECOND = "a thin stripe runs down the middle."


@pytest.fixture(scope="module")
def find(tiny_bundle: Bundle) -> object:
    """Beginnings of one row, and the scores that they were found from."""
    decoder = tiny_bundle.load_decoder()

    @jax.jit
    def beginnings_of(
        states: jax.Array, tokens: jax.Array, length: jax.Array, frames: jax.Array
    ) -> jax.Array:
        prompt = jnp.array([[256 + 1, 256 + 9]])
        cross = decoder.cross_cache(AudioStates(states, None))
        return beginnings(decoder, cross, prompt, tokens, length, frames, HEADS)

    return beginnings_of


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(0, TOKENS), frames=st.integers(8, FRAMES))
def test_tokens_begin_in_order_within_the_recording(
    seed: int, length: int, frames: int, find: object
) -> None:
    random = np.random.default_rng(seed)
    states = jnp.asarray(random.normal(size=(1, FRAMES, TINY.width)), jnp.float32)
    tokens = jnp.asarray(random.integers(0, 256, (1, TOKENS)), jnp.int32)
    (begins,) = np.asarray(find(states, tokens, jnp.array([length]), jnp.array([frames])))  # type: ignore[operator]
    assert begins[0] == 0
    assert (np.diff(begins) >= 0).all()
    assert (begins[: length + 1] < frames).all()
    assert (begins[length + 1 :] == frames).all()


@pytest.mark.parametrize("decoder", ["ar", "diffusion"])
def test_words_are_where_they_are_spoken(decoder: DecoderName) -> None:
    transcriber = Transcriber.from_bundle("tiny.en", decoder=decoder, word_times=True)
    first, second = (
        read_audio(SAMPLES / f"{name}.flac") for name in ("LJ001-0002", "sb_spk1_snt4")
    )
    between = len(first) / SAMPLE_RATE
    joined = np.concatenate([first, np.zeros(SAMPLE_RATE, np.float32), second])
    words = transcriber.transcribe(joined).words
    number = len(words) - len(SECOND.split())
    assert " ".join(word.text for word in words[number:]).lower() == SECOND
    assert words[number - 1].start < between < between + 0.8 < words[number].end
    flat = [time for word in words for time in (word.start, word.end)]
    assert flat == sorted(flat)
    assert 0 <= flat[0] < flat[-1] <= len(joined) / SAMPLE_RATE
