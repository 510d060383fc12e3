"""Speech made to sound otherwise, on the device: speed, room, line, noise, other people."""

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE

_ROOM = SAMPLE_RATE // 2
"""Samples that a room answers for."""
_BANDS = 9
"""Of a curve over frequency, at equal distances to the ear."""
_COLOUR = 4.0
"""Decibels: how far such a curve goes up and down."""
_LINE_HERTZ = 300, 3400


def varied(
    samples: jax.Array,
    begin: jax.Array | np.ndarray,
    length: jax.Array | np.ndarray,
    speed: jax.Array | np.ndarray,
    harder: jax.Array | np.ndarray,
    seconds: int,
    key: jax.Array,
) -> jax.Array:
    """Cut speech out, play it faster or slower, and make some of it harder to hear.

    Args:
        samples: [n] int16, of all speech.
        begin: [rows] int32, and so are the next: where each row's speech begins.
        length: samples of it; 0 is a row of nothing but noise.
        speed: float32; its voice becomes higher with it.
        harder: bool.
        seconds: each row is padded to, with zeros, or cut.

    Returns:
        [rows, samples] float32 at 16 kHz.
    """
    keys = iter(jax.random.split(key, 12))
    rows, size = len(begin), seconds * SAMPLE_RATE
    clean, spoken = _played(samples, begin, length, speed, size)

    def chance(share: float) -> jax.Array:
        return jax.random.bernoulli(next(keys), share, (rows, 1))

    def decibels(low: float, high: float) -> jax.Array:
        drawn = jax.random.uniform(next(keys), (rows, 1), minval=low, maxval=high)
        return jnp.asarray(10 ** (drawn / 20))

    hertz = jnp.fft.rfftfreq(size + _ROOM, 1 / SAMPLE_RATE)
    spectrum = jnp.fft.rfft(clean, size + _ROOM)
    spectrum *= _curve(hertz, next(keys), rows)
    on_line = (hertz > _LINE_HERTZ[0]) & (hertz < _LINE_HERTZ[1])
    spectrum *= jnp.where(chance(0.15), on_line, True)
    spectrum *= jnp.where(chance(0.3), _room(next(keys), rows, size), 1)
    speech = jnp.fft.irfft(spectrum, size + _ROOM)[:, :size]
    level = _level(speech, spoken)
    silent = jnp.asarray(length)[:, None] == 0
    level = jnp.where(silent, 0.01, level)
    white = jnp.fft.rfft(jax.random.normal(next(keys), (rows, size)))
    noise = jnp.fft.irfft(
        white * _curve(jnp.fft.rfftfreq(size, 1 / SAMPLE_RATE), next(keys), rows), size
    )
    noise = noise / _level(noise, spoken) * level / decibels(5, 40)
    others = jnp.roll(clean, 1, axis=0)
    others = others / jnp.maximum(_level(others, spoken), 1e-5) * level / decibels(10, 30)
    disturbed = speech + jnp.where(silent | chance(0.7), noise, 0)
    disturbed += jnp.where(~silent & chance(0.2), others, 0)
    return jnp.where(jnp.asarray(harder)[:, None], disturbed, clean) * spoken


def _played(
    samples: jax.Array,
    begin: jax.Array | np.ndarray,
    length: jax.Array | np.ndarray,
    speed: jax.Array | np.ndarray,
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """Each row's speech at its speed, [rows, size], and where it is; a row of none is full."""
    at = jnp.arange(size) * jnp.asarray(speed)[:, None]
    before = at.astype(jnp.int32)
    length = jnp.asarray(length)[:, None]
    spoken = before < jnp.where(length, length, size * 2)
    place = jnp.asarray(begin)[:, None] + jnp.minimum(before, length)
    near, far = samples.at[place].get(mode="clip"), samples.at[place + 1].get(mode="clip")
    part = at - before
    mixed = (near * (1 - part) + far * part) / 32768
    return jnp.where(spoken & (length > 0), mixed, 0), spoken


def _level(sound: jax.Array, there: jax.Array) -> jax.Array:
    """Root mean square of the part that is there, [rows, 1]."""
    power = jnp.where(there, jnp.square(sound), 0).sum(1, keepdims=True)
    return jnp.sqrt(power / jnp.maximum(there.sum(1, keepdims=True), 1))


def _curve(hertz: jax.Array, key: jax.Array, rows: int) -> jax.Array:
    """A random smooth response, [rows, frequencies]: a microphone's, or the colour of a noise."""
    heights = _COLOUR * jax.random.normal(key, (rows, _BANDS))
    place = jnp.log1p(hertz / 200) / np.log1p(SAMPLE_RATE / 2 / 200) * (_BANDS - 1)
    lower = jnp.minimum(place.astype(jnp.int32), _BANDS - 2)
    part = place - lower
    return 10 ** ((heights[:, lower] * (1 - part) + heights[:, lower + 1] * part) / 20)


def _room(key: jax.Array, rows: int, size: int) -> jax.Array:
    """A room's response over frequency: sound, and noise that dies away behind it."""
    first, second, third = jax.random.split(key, 3)
    t = jnp.arange(_ROOM) / SAMPLE_RATE
    seconds = jax.random.uniform(first, (rows, 1), minval=0.1, maxval=0.5)
    tail = jax.random.normal(second, (rows, _ROOM)) * 10 ** (-3 * t / seconds)
    loud = jax.random.uniform(third, (rows, 1), minval=0.1, maxval=0.5)
    tail = loud * tail / jnp.sqrt(jnp.square(tail).sum(1, keepdims=True))
    return jnp.fft.rfft(tail.at[:, 0].set(1), size + _ROOM)
