"""Recordings as a command line names them: files, directories, patterns, standard input."""

import glob
import sys
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from etils import epath

from whisfusion_jax.errors import AudioError
from whisfusion_jax.places import files, place

STANDARD_INPUT = "-"

_ENDINGS = frozenset(
    """
    .3gp .aac .ac3 .aif .aiff .amr .au .avi .caf .flac .flv .m4a .m4b .m4v .mka .mkv .mov .mp2 .mp3
    .mp4 .mpeg .mpg .oga .ogg .ogv .opus .ra .spx .ts .tta .voc .wav .weba .webm .wma .wmv .wv
    """.split()  # noqa: SIM905
)
"""Of files that may have sound; in directories others are passed over."""


def find_files(names: Sequence[str]) -> list[str]:
    """Files that names stand for, in order.

    Args:
        names: of files, of directories, all of whose recordings are meant, and patterns such as
            `talks/*.mp3`; `-` is standard input.

    Raises:
        AudioError: a directory has no recordings, or a pattern fits nothing.
    """
    found: list[str] = []
    for name in names:
        path = place(name)
        if name == STANDARD_INPUT or path.is_file():
            found.append(name)
        elif path.is_dir():
            inside = sorted(str(each) for each in files(path) if _is_recording(each))
            if not inside:
                raise AudioError(f"{name}: no recordings in this directory")
            found += inside
        elif glob.has_magic(name):
            fitting = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            if not fitting:
                raise AudioError(f"{name}: no file fits this pattern")
            found += fitting
        else:
            found.append(name)  # its own error says that it is missing
    return found


def open_source(name: str, raw_rate: int | None = None) -> str | BytesIO | tuple[np.ndarray, int]:
    """What a Transcriber takes for a file's name.

    Args:
        raw_rate: read it as bare samples at so many Hz: 16 bits, little-endian, mono.
    """
    if name == STANDARD_INPUT:
        data = sys.stdin.buffer.read()
    elif raw_rate is None or not place(name).is_file():
        return name
    else:
        data = place(name).read_bytes()
    if raw_rate is None:
        return BytesIO(data)
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2"), raw_rate


def _is_recording(path: epath.Path) -> bool:
    return path.suffix.lower() in _ENDINGS and path.is_file()
