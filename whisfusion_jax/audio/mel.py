"""Whisper's log-mel features as one jitted function of the samples."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE

HOP = 160
"""Samples between mel frames: 100 frames a second."""
WINDOW = 400
"""Samples of one Fourier window, and the transform's length."""


@lru_cache
def mel_filters(mel_bins: int, length: int = WINDOW) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale, as Whisper and NeMo use them.

    Args:
        length: of the Fourier transform.

    Returns:
        [length // 2 + 1, mel_bins] float32.
    """
    # Slaney's scale: linear up to 1 kHz (15 mel), logarithmic above (27 steps to 6.4 times that).
    log_step = np.log(6.4) / 27
    top = 15 + np.log(SAMPLE_RATE / 2 / 1000) / log_step
    mels = np.linspace(0, top, mel_bins + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(log_step * (mels - 15)))

    frequencies = np.linspace(0, SAMPLE_RATE / 2, length // 2 + 1)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - lower) / (centre - lower)
    falling = (upper - frequencies) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (upper - lower)).astype(np.float32)


@partial(jax.jit, static_argnames=("mel_bins", "loudness"))
def log_mel(samples: jax.Array, mel_bins: int = 80, loudness: float | None = None) -> jax.Array:
    """Log-mel features as Whisper's own feature extractor makes them.

    Pad the samples with zeros *before* this (to 30 s, or to the bucket): a zero in the features
    is not silence.

    Args:
        samples: [batch, n] float32 in [-1, 1] at 16 kHz, n a multiple of HOP and above WINDOW.
        mel_bins: 80, or 128 for large-v3.
        loudness: if given, each row is shifted so that its maximum is this, in log10 power;
            silence then has the same value in every row (needed by the padding memory).

    Returns:
        [batch, n / HOP, mel_bins] float32, eight decades deep below each row's maximum.
    """
    if samples.shape[-1] % HOP or samples.shape[-1] <= WINDOW:
        raise ValueError(f"{samples.shape[-1]} samples: not a multiple of {HOP} above {WINDOW}")
    padded = jnp.pad(samples, ((0, 0), (WINDOW // 2, WINDOW // 2)), mode="reflect")
    power = power_spectrum(padded, np.hanning(WINDOW + 1)[:-1], WINDOW)[
        :, : samples.shape[-1] // HOP
    ]
    mel = jnp.matmul(power, mel_filters(mel_bins), precision=jax.lax.Precision.HIGHEST)
    log = jnp.log10(jnp.maximum(mel, 1e-10))
    maximum = log.max(axis=(-2, -1), keepdims=True)
    log = jnp.maximum(log, maximum - 8)
    if loudness is not None:
        log = log - maximum + loudness
    return (log + 4) / 4


def power_spectrum(padded: jax.Array, window: np.ndarray, length: int) -> jax.Array:
    """Squared magnitudes of the windowed Fourier transform.

    Args:
        padded: [batch, n + WINDOW], half a window more on either side, so that frames are centred;
            n a multiple of HOP.
        window: [WINDOW].
        length: of the transform; zeros follow the window.

    Returns:
        [batch, n / HOP + 1, length // 2 + 1].
    """
    # A window is two and a half hops, so frames are three neighbouring hops, the last cut short.
    frames = (padded.shape[-1] - WINDOW) // HOP + 1
    hops = jnp.pad(padded, ((0, 0), (0, (frames + 2) * HOP - padded.shape[-1])))
    hops = hops.reshape(-1, frames + 2, HOP)
    windows = jnp.concatenate([hops[:, :-2], hops[:, 1:-1], hops[:, 2:, : WINDOW - 2 * HOP]], -1)
    windows = windows * window.astype(np.float32)

    def by_fft(windows: jax.Array) -> jax.Array:
        spectrum = jnp.fft.rfft(windows, length)
        return spectrum.real**2 + spectrum.imag**2

    # For a length that is no power of two a TPU's transform is compiled for 19 s.
    return jax.lax.platform_dependent(
        windows, tpu=partial(power_by_products, length=length), default=by_fft
    )


def power_by_products(windows: jax.Array, length: int) -> jax.Array:
    """Squared magnitudes of a Fourier transform, as products with its cosines and sines.

    Args:
        windows: [..., n] float32, n at most `length`.

    Returns:
        [..., length // 2 + 1].
    """
    samples, frequencies = np.arange(windows.shape[-1])[:, None], np.arange(length // 2 + 1)
    # Whole turns are taken off before anything is rounded.
    angles = 2 * np.pi / length * (samples * frequencies % length)
    waves = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    parts = jnp.einsum("...n,cnf->c...f", windows, waves, precision=jax.lax.Precision.HIGHEST)
    return (parts**2).sum(0)
