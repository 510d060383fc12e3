"""The process that decodes strangers' recordings, with little memory, no files and no network.

It reads from standard input, for each recording, a header, then parts, each behind its length; a
part of no length is the end. It answers on standard output with samples, and what there is to say.
"""

import os
import resource
import struct
import sys
from io import BytesIO, RawIOBase
from typing import IO

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import audio_pieces
from whisfusion_jax.errors import AudioError

HEADER = struct.Struct("<cd?")
"""`w` (it is decoded once it is whole) or `s` (as it comes), the most seconds that it may have, and
whether a damaged one is refused."""
PART = struct.Struct("<I")
"""A part's length."""
_MEMORY = 1 << 30
"""Bytes that this process may have of its own."""


class ReplyKind:
    """What an answer is, before its length."""

    HEADER = struct.Struct("<cI")
    SAMPLES, ERROR, TOO_LONG, END = b"a", b"e", b"l", b"."


def read_exactly(file: IO[bytes], length: int) -> bytes:
    """So many bytes; none where the file ends before."""
    data = file.read(length)
    return data if len(data) == length else b""


class _Parts(RawIOBase):
    """A recording's parts as they come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left, self.ended = file, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left and not self.ended:
            (self._left,) = PART.unpack(read_exactly(self._file, PART.size) or PART.pack(0))
            self.ended = self._left == 0
        wanted = min(len(buffer), self._left)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._left -= wanted
        return len(data)


def _answer(kind: bytes, data: bytes = b"") -> None:
    sys.stdout.buffer.write(ReplyKind.HEADER.pack(kind, len(data)) + data)
    sys.stdout.buffer.flush()


def _pass_over(lost: str) -> None:
    """What is missing is not said."""


def _decode(parts: _Parts, whole: bool, most: float, strict: bool) -> None:
    """Answer with one recording's samples."""
    source = BytesIO(parts.readall()) if whole else parts
    count = 0
    try:
        for piece in audio_pieces(source, None if strict else _pass_over, live=not whole):
            count += len(piece)
            if count > most * SAMPLE_RATE:
                _answer(ReplyKind.TOO_LONG, f"a recording may have {most:g} s".encode())
                return
            _answer(ReplyKind.SAMPLES, piece.astype(np.float32).tobytes())
    except AudioError as error:
        _answer(ReplyKind.ERROR, str(error).encode())
        return
    except MemoryError:
        _answer(ReplyKind.ERROR, b"not readable as audio (decoding it took too much)")
        return
    _answer(ReplyKind.END)


def main() -> None:
    """Decode one recording after the other, as long as there are any."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _answer(ReplyKind.END)  # from here on it is said how long decoding may take
    while head := read_exactly(sys.stdin.buffer, HEADER.size):
        kind, most, strict = HEADER.unpack(head)
        parts = _Parts(sys.stdin.buffer)
        _decode(parts, kind == b"w", most, strict)
        while not parts.ended:
            parts.readall()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # what FFmpeg's libraries still hold goes with the process
