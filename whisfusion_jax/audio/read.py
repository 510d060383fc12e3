"""Any recording that FFmpeg's libraries open, to 16 kHz mono samples."""

from collections.abc import Iterator
from io import IOBase
from pathlib import Path

import av
import numpy as np
import soxr

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.errors import AudioError

_TOLERATED_LOSS = 0.5
"""Seconds by which a file may be shorter than its header says; encoders round and pad."""


def read_audio(source: str | Path | IOBase) -> np.ndarray:
    """Decode the first audio stream of a file to 16 kHz mono.

    Args:
        source: a path, or an open binary file.

    Returns:
        [samples] float32, channels averaged; at least one sample, all finite.

    Raises:
        AudioError: missing, empty, not audio, cut short, without samples, or not finite.
    """
    name = str(source) if isinstance(source, str | Path) else "the audio stream"
    if isinstance(source, str | Path):
        _check_file(Path(source))
    try:
        with av.open(str(source) if isinstance(source, Path) else source, "r") as container:
            if not container.streams.audio:
                kind = "a video without sound" if container.streams.video else "no audio stream"
                raise AudioError(f"{name}: {kind}")
            samples = _resampled(container, name)
            if container.format.name == "ogg" and _ends_within_page(source):
                raise AudioError(f"{name}: the file is cut short or damaged")
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: not readable as audio ({_reason(error)})") from None
    return check_samples(samples, name)


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


def _check_file(path: Path) -> None:
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if path.is_dir():
        raise AudioError(f"{path}: is a directory")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise AudioError(f"{path}: the file is empty")
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror}") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _resampled(container: av.container.InputContainer, name: str) -> np.ndarray:
    """Decode, mix to mono and resample piece by piece, so that hours fit in memory."""
    stream = container.streams.audio[0]
    rate = stream.rate
    if not rate:
        raise AudioError(f"{name}: not readable as audio (it names no sample rate)")
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    pieces, decoded = [], 0
    for mono in _mono_pieces(container, stream, name):
        decoded += len(mono)
        pieces.append(resampler.resample_chunk(mono))
    _check_length(container, stream, decoded / rate, name)
    pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def _mono_pieces(
    container: av.container.InputContainer, stream: av.AudioStream, name: str
) -> Iterator[np.ndarray]:
    """Each decoded frame as [samples] float32, its channels averaged."""
    to_float = av.AudioResampler(format="fltp")  # sample format only: rate and channels stay
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise AudioError(f"{name}: the file is cut short or damaged")
        for frame in packet.decode():
            for piece in to_float.resample(frame):
                yield piece.to_ndarray().mean(axis=0, dtype=np.float32)


def _ends_within_page(source: str | Path | IOBase) -> bool:
    """Whether an Ogg file's last page is incomplete; Ogg declares no length to check."""
    if not isinstance(source, IOBase):
        with Path(source).open("rb") as file:
            return _ends_within_page(file)
    longest_page = 27 + 255 + 255 * 255
    size = source.seek(0, 2)
    source.seek(max(0, size - longest_page))
    tail = source.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _check_length(
    container: av.container.InputContainer, stream: av.AudioStream, seconds: float, name: str
) -> None:
    """Name files that end before their header says; Whisper would silently lose the rest."""
    if stream.duration is not None and stream.time_base is not None:
        declared = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        declared = container.duration / av.time_base
    else:
        return
    if seconds < declared - _TOLERATED_LOSS and seconds < 0.98 * declared:
        raise AudioError(f"{name}: cut short, {seconds:.1f} s of {declared:.1f} s are there")
