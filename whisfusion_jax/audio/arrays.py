"""Samples in memory, as audio libraries give them, to 16 kHz mono."""

from typing import Any

import numpy as np
import soxr

from whisfusion_jax.errors import AudioError

SAMPLE_RATE = 16_000
"""Samples a second of all audio inside the project."""
_CANCELLED = 0.05
"""Channels whose mean has less than this share of the loudest one's power cancel each other out."""


def mixed(channels: np.ndarray) -> np.ndarray:
    """Channels averaged, or where they cancel each other out, the loudest.

    Args:
        channels: [channels, samples] float.

    Returns:
        [samples] float32.
    """
    if len(channels) == 1:
        return channels[0].astype(np.float32, copy=False)
    mean = channels.mean(axis=0, dtype=np.float32)
    power = np.square(channels).mean(axis=1)
    loudest = int(power.argmax())
    if np.square(mean).mean() < _CANCELLED * power[loudest]:
        return channels[loudest].astype(np.float32)
    return mean


def samples_of(array: Any, name: str = "the array") -> np.ndarray:
    """Mono samples at 16 kHz.

    Args:
        array: [samples], [samples, channels] or [channels, samples], floats in [-1, 1] or integers
            of any size, at 16 kHz; or a pair of such an array and its rate in Hz, in either order.
        name: of the recording, for the error.

    Returns:
        [samples] float32.

    Raises:
        AudioError: it is no such array, or empty, or not finite.
    """
    rate = SAMPLE_RATE
    if isinstance(array, tuple) and len(array) == 2 and np.ndim(array[0]) != np.ndim(array[1]):
        array, rate = sorted(array, key=np.ndim, reverse=True)
        if np.ndim(rate) or not 1_000 <= rate < 1_000_000:
            raise AudioError(f"{name}: a rate of {rate} Hz is none of sound")
    samples = _as_floats(np.asarray(array), name)
    if samples.ndim == 2:
        # There are always more samples than channels.
        samples = mixed(samples if len(samples) < len(samples.T) else samples.T)
    samples = check_samples(samples, name)
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE)


def check_samples(samples: np.ndarray, name: str) -> np.ndarray:
    """Samples as float32, if they are a recording.

    Args:
        samples: [samples] floats in [-1, 1].
        name: of the recording, for the error.

    Raises:
        AudioError: not one row of floats, empty, or not finite.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise AudioError(
            f"{name}: is {samples.dtype} {list(samples.shape)}, not one row of floats in [-1, 1]"
        )
    if not samples.size:
        raise AudioError(f"{name}: holds no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds samples that are not finite numbers (NaN or infinity)")
    return samples.astype(np.float32)


def _as_floats(samples: np.ndarray, name: str) -> np.ndarray:
    """Integers scaled to [-1, 1]; unsigned bytes have silence at 128, as in WAV."""
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "f":
        return samples
    if kind == "i":
        return (samples / 2.0 ** (bits - 1)).astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    raise AudioError(f"{name}: is {samples.dtype} {list(samples.shape)}, not samples of sound")
