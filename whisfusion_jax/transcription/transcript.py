"""What a transcription yields, and how it is written."""

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """One window's text."""

    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    tokens: tuple[int, ...]
    """Text tokens, without special ones."""
    avg_logprob: float
    """Mean log-probability of the tokens and the end token."""
    no_speech_prob: float
    """Whisper's own probability that nobody speaks."""


@dataclass(frozen=True)
class Transcript:
    """A recording's text."""

    text: str
    language: str | None
    """Given or detected code; None from an English-only model."""
    seconds: float
    """Length of the recording."""
    segments: tuple[Segment, ...]
    compute_seconds: float
    """Wall time of its batches, shared out evenly over their windows; without compilation."""

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of computing."""
        return self.seconds / self.compute_seconds

    def to_json(self, file: str) -> str:
        """One line of JSON: the recording's file name, then every field."""
        return json.dumps({"file": file, **dataclasses.asdict(self)}, ensure_ascii=False)
