"""What happens to speech on its way to a microphone and through a line.

Every function takes and returns [samples] float32 at 16 kHz, of the same length.
"""

from fractions import Fraction

import av
import numpy as np
import soxr

from whisfusion_jax.audio.arrays import SAMPLE_RATE


def augment(samples: np.ndarray, other: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """One or two of the effects below, and a random gain.

    Args:
        other: other speech, for babble.
        draw: makes every choice.
    """
    effects = {
        "noise": lambda x: mixed(x, draw.normal(size=len(x)), draw.uniform(5, 30)),
        "babble": lambda x: mixed(x, _babble(other, len(x)), draw.uniform(8, 25)),
        "reverberation": lambda x: reverberant(x, draw.uniform(0.1, 0.7), draw),
        "telephone": telephone,
        "codec": lambda x: coded(x, str(draw.choice(["libopus", "libmp3lame"])), 16_000),
    }
    chosen = draw.choice(list(effects), size=draw.integers(1, 3), replace=False)
    for name in chosen:
        samples = effects[str(name)](samples)
    return gained(samples, draw.uniform(-20, 0))


def gained(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Put the loudest sample so far below full scale."""
    loudest = max(float(np.abs(samples).max()), 1e-6)
    return (samples * (10 ** (decibels / 20) / loudest)).astype(np.float32)


def mixed(samples: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    """Add noise that is so much weaker than the speech."""
    power, disturbing = np.mean(samples**2), max(np.mean(noise**2), 1e-12)
    scale = np.sqrt(power / disturbing / 10 ** (decibels / 10))
    return (samples + scale * noise).astype(np.float32)


def _babble(other: np.ndarray, length: int) -> np.ndarray:
    """Several people at once, out of one: pieces of the speech laid over each other."""
    rolled = [np.roll(other, k * len(other) // 5) for k in range(5)]
    return np.resize(np.sum(rolled, axis=0), length)


def reverberant(samples: np.ndarray, seconds: float, draw: np.random.Generator) -> np.ndarray:
    """A room in which sound falls by 60 dB in so many seconds: decaying noise as its response."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = draw.normal(size=len(t)) * 10 ** (-3 * t / seconds)
    response *= draw.uniform(0.1, 0.5) / max(np.sqrt(np.sum(response**2)), 1e-9)
    response[0] = 1
    size = len(samples) + len(response)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return wet[: len(samples)].astype(np.float32)


def telephone(samples: np.ndarray) -> np.ndarray:
    """A telephone line: 300 to 3,400 Hz at 8 kHz, in the 8 bits of G.711's mu-law."""
    low = soxr.resample(samples, SAMPLE_RATE, 8000)
    spectrum = np.fft.rfft(low)
    hertz = np.fft.rfftfreq(len(low), 1 / 8000)
    band = np.fft.irfft(spectrum * ((hertz > 300) & (hertz < 3400)), len(low))
    band = np.clip(band, -1, 1)
    coarse = np.round(128 * np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256)) / 128
    line = np.sign(coarse) * np.expm1(np.abs(coarse) * np.log(256)) / 255
    return np.resize(soxr.resample(line, 8000, SAMPLE_RATE), len(samples)).astype(np.float32)


def coded(samples: np.ndarray, codec: str, bits: int) -> np.ndarray:
    """Through a lossy codec of FFmpeg's, such as libopus, and back.

    Args:
        bits: a second.
    """
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = SAMPLE_RATE
    encoder.layout = "mono"
    encoder.format = "s16" if codec == "libopus" else "s16p"
    encoder.bit_rate = bits
    encoder.time_base = Fraction(1, SAMPLE_RATE)
    encoder.open()
    decoder = av.CodecContext.create({"libmp3lame": "mp3float"}.get(codec, codec), "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.extradata = encoder.extradata
    size = encoder.frame_size
    whole = np.pad(samples, (0, -len(samples) % size + 2 * size))
    packets = []
    for begin in range(0, len(whole), size):
        piece = (np.clip(whole[begin : begin + size], -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(piece[None], encoder.format.name, "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, begin
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    to_float = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    pieces = [
        resampled.to_ndarray()[0]
        for packet in packets
        for frame in decoder.decode(packet)
        for resampled in to_float.resample(frame)
    ]
    heard = np.concatenate(pieces)
    late = _delay(samples, heard)
    return np.pad(heard[late:], (0, len(samples)))[: len(samples)].astype(np.float32)


def _delay(samples: np.ndarray, heard: np.ndarray) -> int:
    """By how many samples a codec is late, at most a tenth of a second."""
    size = len(samples) + len(heard)
    likeness = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(samples, size)), size)
    return int(likeness[: SAMPLE_RATE // 10].argmax())
