"""NeMo's log-mel features, each bin normalised over the recording: FastConformer's input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.mel import HOP, WINDOW, mel_filters, power_spectrum

_TRANSFORM = 512
"""Length of the Fourier transform; zeros around the window."""
_PREEMPHASIS = 0.97
_FLOOR = 2.0**-24
"""Added to a bin's power."""
_EPSILON = 1e-5
"""Added to a bin's deviation."""


@partial(jax.jit, static_argnames="mel_bins")
def normalised_log_mel(samples: jax.Array, lengths: jax.Array, mel_bins: int = 80) -> jax.Array:
    """Log-mel features with mean 0 and deviation 1 in each bin, as NeMo's preprocessor makes them.

    Args:
        samples: [batch, n] float32 at 16 kHz, n a multiple of HOP.
        lengths: [batch] int32: the samples that there are; what follows is padding.
        mel_bins: 80 or 128.

    Returns:
        [batch, n / HOP, mel_bins] float32; 0 from the frame `lengths // HOP` on.
    """
    n = samples.shape[-1]
    if n % HOP:
        raise ValueError(f"{n} samples: not a multiple of {HOP}")
    emphasised = samples.at[:, 1:].add(-_PREEMPHASIS * samples[:, :-1])
    emphasised = jnp.where(jnp.arange(n) < lengths[:, None], emphasised, 0.0)
    padded = jnp.pad(emphasised, ((0, 0), (WINDOW // 2, WINDOW // 2)))
    power = power_spectrum(padded, np.hanning(WINDOW), _TRANSFORM)[:, : n // HOP]
    filters = mel_filters(mel_bins, _TRANSFORM)
    mel = jnp.log(jnp.matmul(power, filters, precision=jax.lax.Precision.HIGHEST) + _FLOOR)

    frames = (lengths // HOP)[:, None, None]
    there = jnp.arange(n // HOP)[:, None] < frames
    # A single frame has no deviation, and none has nothing.
    mean = jnp.where(there, mel, 0.0).sum(1, keepdims=True) / jnp.maximum(frames, 1)
    spread = (jnp.where(there, mel - mean, 0.0) ** 2).sum(1, keepdims=True)
    spread = spread / jnp.maximum(frames - 1, 1)
    return jnp.where(there, (mel - mean) / (jnp.sqrt(spread) + _EPSILON), 0.0)
