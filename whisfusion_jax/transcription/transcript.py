"""What a transcription yields, and how it is written."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from whisfusion_jax.transcription.subtitles import USUAL, SubtitleOptions, cues, line_of, subtitles
from whisfusion_jax.transcription.words import Word


@dataclass(frozen=True)
class Segment:
    """One window's text."""

    start: float
    """Seconds from the recording's start."""
    end: float
    text: str
    tokens: tuple[int, ...]
    """Whisper's text tokens, without special ones."""
    confidences: tuple[float, ...]
    """Each token's probability when it was written."""
    fixed_at: tuple[int, ...]
    """The step, from 1, that wrote each token; 0 if it was given."""
    words: tuple[Word, ...]
    steps: int
    """Passes of the decoder until the text was there."""
    avg_logprob: float
    """Mean log-probability of the tokens and the end token."""
    no_speech_prob: float | None
    """Whisper's own probability that nobody speaks; None where its decoder didn't run."""

    @property
    def blank(self) -> bool:
        """Whether a blank parts its text from the one before."""
        return not self.words or self.words[0].blank


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
    warning: str | None = None
    """What a damaged recording lacks."""

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of computing; infinite where nobody speaks."""
        return self.seconds / self.compute_seconds if self.compute_seconds else math.inf

    @property
    def steps(self) -> float:
        """Passes of the decoder, the mean over the windows."""
        return sum(segment.steps for segment in self.segments) / max(len(self.segments), 1)

    @property
    def words(self) -> tuple[Word, ...]:
        """Of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self, file: str) -> str:
        """One line of JSON: the recording's file name, then every field.

        What openai/whisper's JSON has, too, has its name there.
        """
        fields = dataclasses.asdict(self)
        fields["segments"] = [
            {"id": number, **segment, "words": [_named_as_whispers(w) for w in segment["words"]]}
            for number, segment in enumerate(fields["segments"])
        ]
        return json.dumps({"file": file, **fields}, ensure_ascii=False)

    def to_srt(self, options: SubtitleOptions = USUAL) -> str:
        """SubRip subtitles.

        Raises:
            WhisfusionError: the words have no times (`Transcriber(word_times=True)`).
        """
        return subtitles(self.words, "srt", options)

    def to_vtt(self, options: SubtitleOptions = USUAL) -> str:
        """WebVTT subtitles; raises as `to_srt` does."""
        return subtitles(self.words, "vtt", options)

    def to_tsv(self, options: SubtitleOptions = USUAL) -> str:
        """A line a cue: start and end in milliseconds, and text; raises as `to_srt` does."""
        rows = ["start\tend\ttext"]
        for cue in cues(self.words, options):
            said = [word for line in cue for word in line]
            start, end = round(1000 * said[0].start), round(1000 * said[-1].end)
            rows.append(f"{start}\t{end}\t{line_of(said)}")
        return "\n".join(rows)


def _named_as_whispers(word: dict[str, Any]) -> dict[str, Any]:
    times = {} if word["start"] is None else {"start": word["start"], "end": word["end"]}
    return {
        "word": " " * word["blank"] + word["text"],
        **times,
        "probability": word["confidence"],
        "fixed_at": word["fixed_at"],
    }
