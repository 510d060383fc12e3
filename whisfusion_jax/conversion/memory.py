"""A bundle's padding memory from a few recordings (models/padding_memory.py says what it is)."""

from collections.abc import Sequence

import jax
import numpy as np

from whisfusion_jax.audio.mel import SAMPLE_RATE, log_mel
from whisfusion_jax.audio.windows import SPARE_SECONDS, WINDOW_SECONDS, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import FRAMES_PER_SECOND, MemoryConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.padding_memory import make_memory


def add_memory(
    bundle: Bundle, recordings: Sequence[np.ndarray], config: MemoryConfig | None = None
) -> Bundle:
    """Make a padding memory and store it in the bundle.

    Args:
        recordings: each [samples] at 16 kHz; four to six short clips of speech are enough, and
            longer ones are cut. A language or voice other than the later audio's will do.
        config: how to make it; None for the defaults.

    Raises:
        WhisfusionError: there is no recording.
    """
    if not recordings:
        raise WhisfusionError("a padding memory is made from at least one recording")
    config = config or MemoryConfig()
    longest = int((config.first_frame / FRAMES_PER_SECOND - SPARE_SECONDS) * SAMPLE_RATE)
    clips = np.stack([pad_to(samples[:longest], WINDOW_SECONDS) for samples in recordings])
    mel = log_mel(clips, bundle.config.model.mel_bins, config.loudness)
    memory = jax.jit(make_memory, static_argnames="config")(
        bundle.load_whisper().encoder, mel, config=config
    )
    return bundle.with_memory(memory)
