"""Files of many formats, written with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FORMATS = {
    "wav": ("pcm_s16le", "wav"),
    "float.wav": ("pcm_f32le", "wav"),
    "flac": ("flac", "flac"),
    "mp3": ("libmp3lame", "mp3"),
    "ogg": ("flac", "ogg"),
    "opus": ("libopus", "ogg"),
    "m4a": ("aac", "ipod"),
    "webm": ("libopus", "webm"),
    "aac": ("aac", "adts"),
}
"""File ending to codec and container."""


def tone(seconds: float, rate: int, channels: int = 1, frequency: float = 440) -> np.ndarray:
    """[channels, samples] float32; the second channel is the first's half."""
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    return np.stack([wave, wave / 2][:channels]).astype(np.float32)


def write(
    path: Path, ending: str, samples: np.ndarray, rate: int, picture: bool = False
) -> Path:  # fmt: skip
    """Encode [channels, samples] float32; with a video stream beside it, if wanted."""
    codec, container_format = FORMATS.get(ending, ("aac", "mp4"))
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=container_format) as container:
        video = _add_picture(container) if picture else None
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if video:
            _write_picture(container, video)
        step = 960
        frames = [samples[:, i : i + step] for i in range(0, samples.shape[1], step)]
        to_codec = av.AudioResampler(
            format=stream.format.name, layout=layout, rate=rate, frame_size=stream.frame_size or 0
        )
        for i, data in enumerate(frames):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, i * step, Fraction(1, rate)
            for piece in to_codec.resample(frame):
                container.mux(stream.encode(piece))
        for piece in to_codec.resample(None):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def _add_picture(container: av.container.OutputContainer) -> av.VideoStream:
    video = container.add_stream("mpeg4", rate=10)
    video.width = video.height = 32
    video.pix_fmt = "yuv420p"
    return video


def _write_picture(container: av.container.OutputContainer, video: av.VideoStream) -> None:
    for index in range(10):
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        image.pts, image.time_base = index, Fraction(1, 10)
        container.mux(video.encode(image))
    container.mux(video.encode(None))


def write_silent_video(path: Path) -> Path:
    """A video without any audio stream."""
    with av.open(str(path), "w", format="mp4") as container:
        _write_picture(container, _add_picture(container))
    return path
