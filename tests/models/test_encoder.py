import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, speechlike
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.bundle import abstract_whisper
from whisfusion_jax.config import WHISPER_SIZES, MemoryConfig
from whisfusion_jax.conversion.memory import make_memory
from whisfusion_jax.models.whisper import Whisper


def test_equals_transformers(tiny_whisper: Whisper, recorded: Mapping[str, np.ndarray]) -> None:
    mel = np.random.default_rng(1).normal(size=(2, 3000, TINY.mel_bins)).astype(np.float32)
    states = tiny_whisper.encoder(jnp.asarray(mel)).states
    assert states.shape == (2, 1500, TINY.width)
    np.testing.assert_allclose(states[:, ::50], recorded["states"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", WHISPER_SIZES)
def test_every_size_has_the_published_shapes(name: str) -> None:
    config = dataclasses.replace(WHISPER_SIZES[name], encoder_layers=1, decoder_layers=1)
    mel = jax.ShapeDtypeStruct((1, 3000, config.mel_bins), jnp.float32)
    audio = jax.eval_shape(lambda model, mel: model.encoder(mel), abstract_whisper(config), mel)
    assert audio.states.shape == (1, 1500, config.width)


CLIP = speechlike(5, seed=3)


@pytest.fixture(scope="module")
def padded(tiny_whisper: Whisper) -> jax.Array:
    """The clip's states on the full window."""
    return tiny_whisper.encoder(log_mel(pad_to(CLIP, 30)[None], loudness=1.5)).states


def states_on_bucket(whisper: Whisper, pool: int, made_from: np.ndarray) -> jax.Array:
    """The clip's states on 6 s with a memory of another clip, or of itself."""
    window = log_mel(pad_to(made_from, 30)[None], loudness=1.5)
    memory = make_memory(whisper.encoder, window, MemoryConfig(pool))
    return whisper.encoder(log_mel(pad_to(CLIP, 6)[None], loudness=1.5), memory).states


def test_unpooled_memory_of_the_clip_itself_gives_the_padded_states(
    tiny_whisper: Whisper, padded: jax.Array
) -> None:
    states = states_on_bucket(tiny_whisper, 1, CLIP)
    assert states.shape == padded.shape
    # The last frames differ: a bucket ends, where a window goes on.
    np.testing.assert_allclose(states[:, :297], padded[:, :297], atol=2e-3)
    np.testing.assert_allclose(states[:, 300:], padded[:, 300:], atol=1e-5)


def test_pooled_memory_of_another_clip_comes_close(
    tiny_whisper: Whisper, padded: jax.Array
) -> None:
    pooled = states_on_bucket(tiny_whisper, 10, speechlike(4, seed=8))
    assert pooled.shape[1] == 300 + 120
    cut = tiny_whisper.encoder(log_mel(pad_to(CLIP, 6)[None], loudness=1.5)).states
    error = float(jnp.abs(pooled[:, :297] - padded[:, :297]).mean())
    assert error < 0.2 * float(jnp.abs(cut[:, :297] - padded[:, :297]).mean())


def test_a_bucket_that_does_not_fit_is_named(tiny_whisper: Whisper) -> None:
    memory = make_memory(tiny_whisper.encoder, jnp.zeros((1, 3000, 80)), MemoryConfig())
    with pytest.raises(ValueError, match="250 frames does not fit"):
        tiny_whisper.encoder(jnp.zeros((1, 500, 80)), memory)


@pytest.mark.parametrize("seconds", [6, 30])
def test_rows_one_by_one_are_rows_together(tiny_whisper: Whisper, seconds: int) -> None:
    clips = np.stack([pad_to(speechlike(5, seed), seconds) for seed in range(3)])
    mel = log_mel(clips, loudness=1.5 if seconds < 30 else None)
    window = log_mel(pad_to(CLIP, 30)[None], loudness=1.5)
    memory = make_memory(tiny_whisper.encoder, window, MemoryConfig()) if seconds < 30 else None
    one_by_one = tiny_whisper.encoder.row_by_row(mel, memory)
    together = tiny_whisper.encoder(mel, memory)
    np.testing.assert_allclose(one_by_one.states, together.states, atol=1e-5)
    assert (one_by_one.bias is None) == (memory is None)
