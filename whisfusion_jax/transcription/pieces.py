"""Recordings and their windows on the way to text."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from whisfusion_jax.audio.windows import Window
from whisfusion_jax.errors import AudioError
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.fixing import Known
from whisfusion_jax.transcription.transcript import Segment

Doubt = Literal["repeats", "short"]
"""Why a text can't be all that is said (`transcription/doubts.py`)."""


@dataclass(eq=False)
class Recording:
    """A recording under way."""

    number: int
    """Among all, from 0."""
    language: str | None
    task: Task = "transcribe"
    standing: tuple[int, ...] | None = None
    """Tokens that its text begins with, to write on from; None where nothing may be given."""
    earlier: tuple[int, ...] = ()
    """Tokens of a text that it is written as if it followed, as the decoder counts; none for the
    transcriber's own."""
    known: tuple[Known, ...] = ()
    """Words that are known to be said."""
    urgent: bool = False
    """Somebody waits for each of its words."""
    warning: str | None = None
    error: AudioError | None = None
    samples: int = 0
    """Read so far."""
    compute_seconds: float = 0.0
    windows: int = 0
    """Cut so far."""
    written: dict[int, tuple[Segment, ...]] = field(default_factory=dict)
    """By their windows' numbers; what is to be stitched yet."""
    segments: dict[int, tuple[Segment, ...]] = field(default_factory=dict)
    """Those that stand."""
    seams: set[int] = field(default_factory=set)
    """Windows that overlap with the next, and are not stitched yet."""
    given: int = 0
    """Windows whose segments were handed on."""
    whole: bool = False
    """All of it is read and cut, or can't be."""

    @property
    def finished(self) -> bool:
        """Whether all its windows have been recognised."""
        # Where it can't be read any further, the last may wait for another in vain.
        return self.whole and len(self.segments) + len(self.written) == self.windows


@dataclass(frozen=True, eq=False)
class Piece:
    """A window of a recording, read."""

    recording: Recording
    number: int
    """In its recording, from 0, or in what is written again."""
    window: Window
    samples: np.ndarray
    bucket: int
    """Seconds that it is padded to."""
    again: "Again | None" = None
    """The window that it is a part of, which is written again."""

    @property
    def kind(self) -> "Kind":
        """What pieces of one batch have in common."""
        recording = self.recording
        return Kind(self.bucket, recording.standing is not None, bool(recording.earlier))


@dataclass(frozen=True)
class Kind:
    """What a compiled program for some windows depends on."""

    bucket: int
    """Seconds that they are padded to."""
    stand: bool
    """Words may stand."""
    earlier: bool
    """Each has an earlier text of its own."""


@dataclass(eq=False)
class Again:
    """A window that is written a second time, in parts."""

    number: int
    """The window's, in its recording."""
    first: Segment
    """What was written first; what repeated itself there says it once."""
    doubt: Doubt
    count: int
    parts: dict[int, Segment] = field(default_factory=dict)
    """By their numbers."""
    repeats: bool = False
    """Whether a part goes astray, too."""
