"""A bundle's padding memory from a few recordings (models/padding_memory.py says what it is)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import SPARE_SECONDS, WINDOW_SECONDS, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import FRAMES_PER_SECOND, MemoryConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.encoder import Encoder
from whisfusion_jax.models.padding_memory import PaddingMemory


def add_memory(
    bundle: Bundle, recordings: Sequence[np.ndarray], config: MemoryConfig | None = None
) -> Bundle:
    """Make a padding memory and store it in the bundle.

    Args:
        recordings: each [samples] at 16 kHz; four to six short clips of speech are enough, and
            longer ones are cut. A language or voice other than the later audio's will do.
        config: how to make it; None for the defaults.

    Raises:
        WhisfusionError: there is no recording, or the bundle is no Whisper's.
    """
    model = bundle.whisper
    if not recordings:
        raise WhisfusionError("a padding memory is made from at least one recording")
    config = config or MemoryConfig()
    longest = int((config.first_frame / FRAMES_PER_SECOND - SPARE_SECONDS) * SAMPLE_RATE)
    clips = np.stack([pad_to(samples[:longest], WINDOW_SECONDS) for samples in recordings])
    mel = log_mel(clips, model.mel_bins, config.loudness)
    memory = jax.jit(make_memory, static_argnames="config")(
        bundle.load_encoder(), mel, config=config
    )
    return bundle.with_memory(memory)


def make_memory(encoder: Encoder, mel: jax.Array, config: MemoryConfig) -> PaddingMemory:
    """Make a memory from clips that all end before `config.first_frame`.

    Args:
        encoder: Whisper's encoder.
        mel: [clips, 3000, mel], padded to 30 s, with `config.loudness`.
    """

    def pooled(x: jax.Array) -> jax.Array:
        # [clips, ..., frames, features] to [..., vectors, features]
        mean = x[..., config.first_frame :, :].astype(jnp.float32).mean(axis=0)
        return mean.reshape(*mean.shape[:-2], -1, config.pool, mean.shape[-1]).mean(axis=-2)

    x, keys, values = encoder.embed(mel), [], []
    for block in encoder.blocks:
        layer_keys, layer_values = block.keys_values(x)
        keys.append(pooled(layer_keys))
        values.append(pooled(layer_values))
        x = block(x, (layer_keys, layer_values))
    return PaddingMemory(jnp.stack(keys), jnp.stack(values), pooled(encoder.norm(x)), config)
