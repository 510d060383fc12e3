"""Any recording that FFmpeg's libraries open, to 16 kHz mono samples."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO, IOBase
from pathlib import Path

import av
import numpy as np
import soxr
from etils import epath

from whisfusion_jax.audio.arrays import SAMPLE_RATE, mixed
from whisfusion_jax.errors import AudioError
from whisfusion_jax.places import in_bucket, place

OnLoss = Callable[[str], None]
"""Told what a damaged recording lacks."""

_TOLERATED_LOSS = 0.5
"""Seconds by which a file may be shorter than its header says; encoders round and pad."""
_STREAMED = 0x7FFF_0000
_RATES = range(1_000, 1_000_000)
"""Samples a second; others are a damaged header's, and would make days out of seconds."""


def read_audio(source: str | Path | IOBase, on_loss: OnLoss | None = None) -> np.ndarray:
    """Decode a file's sound to 16 kHz mono.

    Args:
        source: a path, or an open binary file.
        on_loss: told what a damaged recording lacks, of which the rest is returned; None refuses
            such a recording.

    Returns:
        [samples] float32; at least one sample, all finite.

    Raises:
        AudioError: missing, empty, not audio, or without samples; without `on_loss` also cut short,
            damaged, or not finite.
    """
    return np.concatenate(list(audio_pieces(source, on_loss)))


def audio_pieces(
    source: str | Path | IOBase, on_loss: OnLoss | None = None, live: bool = False
) -> Iterator[np.ndarray]:
    """Decode, mix and resample piece by piece, so that hours need little memory.

    Channels are averaged; where they cancel each other out, the loudest is taken. Rates, layouts
    and formats may change on the way. Of several tracks the one is read that FFmpeg thinks best, or
    if nothing is in it, the next.

    Args:
        live: it comes as it is recorded: nothing is waited for that a header would tell.

    Yields:
        [samples] float32, as `read_audio` returns them.
    """
    name = str(source) if isinstance(source, str | Path) else "the audio stream"
    if isinstance(source, str | Path):
        _check_file(place(source))
        if in_bucket(source):
            source = BytesIO(place(source).read_bytes())
    try:
        for number in itertools.count():
            with _opened(source, live) as container:
                tracks = _tracks(container, name)
                track = _Track(container, tracks[number], name, on_loss is None)
                yield from track.pieces()
                if track.seconds:
                    track.check_end(source)
                    if on_loss and track.lost:
                        on_loss("; ".join(track.lost))
                    return
            if number + 1 == len(tracks):
                raise AudioError(f"{name}: {track.nothing}")
            if isinstance(source, IOBase):
                source.seek(0)
    except (av.error.FFmpegError, ValueError, EOFError, OSError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: {_unreadable(error)}") from None


def _opened(source: str | Path | IOBase, live: bool) -> av.container.InputContainer:
    if not isinstance(source, IOBase):
        return av.open(str(source), "r")
    # A stream may be a list of other files, of which none is ours to open.
    options = {"protocol_whitelist": "none"}
    if live:
        options |= {"probesize": "4096", "analyzeduration": "0", "fflags": "nobuffer"}
    return av.open(source, "r", options=options, buffer_size=4096 if live else 32768)


def length_of(path: str | Path) -> float:
    """Seconds that a file's header promises; 0 where it promises nothing, or is none."""
    try:
        with av.open(str(path), "r") as container:
            return (container.duration or 0) / av.time_base
    except (av.error.FFmpegError, ValueError, EOFError, OSError):
        return 0.0


def _check_file(path: epath.Path) -> None:
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


def _unreadable(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"not readable as audio ({reason.lower()})"


def _tracks(container: av.container.InputContainer, name: str) -> list[av.AudioStream]:
    """Streams of sound, the best first."""
    streams = container.streams
    if not streams.audio:
        kind = "a video without sound" if streams.video else "no audio stream"
        raise AudioError(f"{name}: {kind}")
    best = streams.best("audio") or streams.audio[0]
    return sorted(streams.audio, key=lambda stream: stream.index != best.index)


@dataclass
class _Track:
    """One stream's way to samples, and what is lost on it."""

    container: av.container.InputContainer
    stream: av.AudioStream
    name: str
    strict: bool
    """Whether a loss is an error."""
    seconds: float = 0.0
    """Decoded so far."""
    lost: list[str] = field(default_factory=list)
    nothing: str = "holds no samples"
    """Why there are none, if there are none."""

    def pieces(self) -> Iterator[np.ndarray]:
        """At 16 kHz; a new resampler wherever the rate changes."""
        if not self.stream.rate:
            self.nothing = "not readable as audio (it names no sample rate)"
        nothing = np.zeros(0, np.float32)
        for rate, alike in itertools.groupby(self._mono(), key=lambda pair: pair[1]):
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            for mono, _ in alike:
                self.seconds += len(mono) / rate
                yield resampler.resample_chunk(mono)
            yield resampler.resample_chunk(nothing, last=True)

    def check_end(self, source: str | Path | IOBase) -> None:
        """Notice what ended too early; Whisper would silently lose the rest."""
        declared = max(self._declared(), self._declared_by_wave(source))
        if self.seconds < min(declared - _TOLERATED_LOSS, 0.98 * declared):
            there = f"{self.seconds:.1f} s of {declared:.1f} s are there"
            self._lose(f"cut short, {there}")
        elif self.container.format.name == "ogg" and _ends_within_page(source):
            self._lose("the file is cut short or damaged")

    def _mono(self) -> Iterator[tuple[np.ndarray, int]]:
        """Each frame as [samples] float32, all finite, and its rate."""
        like, to_float = None, None
        for frame in self._frames():
            if frame.sample_rate not in _RATES:
                raise AudioError(f"{self.name}: {frame.sample_rate} samples a second are no sound")
            if like != (like := (frame.format.name, frame.layout.name, frame.sample_rate)):
                # Sample format only: rate and channels stay.
                to_float = av.AudioResampler(format="fltp")
            assert to_float is not None
            for piece in to_float.resample(frame):
                channels: np.ndarray = piece.to_ndarray()
                if not np.isfinite(channels).all():
                    self._lose("holds samples that are not finite numbers (NaN or infinity)")
                    channels = np.nan_to_num(channels, posinf=0.0, neginf=0.0)
                # Clipped as FFmpeg does on the way to the 16 bits that Whisper takes.
                yield mixed(channels.clip(-1, 1)), frame.sample_rate

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.is_corrupt and self.strict:
                    raise AudioError(f"{self.name}: the file is cut short or damaged")
            except av.error.FFmpegError as error:
                self._fail(error)
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError as error:
                self._fail(error)

    def _fail(self, error: av.error.FFmpegError) -> None:
        self.nothing = _unreadable(error)
        if self.strict:
            raise error
        self._lose("parts are damaged")

    def _lose(self, what: str) -> None:
        if self.strict:
            raise AudioError(f"{self.name}: {what}")
        if what not in self.lost:
            self.lost.append(what)

    def _declared(self) -> float:
        """Seconds that the header speaks of; 0 if of none."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base

    def _declared_by_wave(self, source: str | Path | IOBase) -> float:
        """What a WAV promises, of which FFmpeg tells no more than is there; 0 if nothing."""
        if self.container.format.name != "wav" or not self.stream.bit_rate:
            return 0
        head = _bytes_of(source, 0, 4096)
        at = head.find(b"data") + 4
        size = int.from_bytes(head[at : at + 4], "little") if at > 4 else 0
        # Who streams, and can't know it, writes the largest number that there is.
        return size * 8 / self.stream.bit_rate if size < _STREAMED else 0


def _ends_within_page(source: str | Path | IOBase) -> bool:
    """Whether an Ogg file's last page is incomplete; Ogg declares no length to check."""
    longest_page = 27 + 255 + 255 * 255
    tail = _bytes_of(source, -longest_page)
    if not tail:
        return False
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _bytes_of(source: str | Path | IOBase, begin: int, count: int = -1) -> bytes:
    """Of a file, from `begin`, or from its end if that is negative; none of a pipe."""
    if not isinstance(source, IOBase):
        with Path(source).open("rb") as file:
            return _bytes_of(file, begin, count)
    if not source.seekable():
        return b""
    size = source.seek(0, 2)
    source.seek(max(0, size + begin) if begin < 0 else begin)
    return source.read(count)
