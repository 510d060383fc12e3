"""What a transcription yields, and how it is written."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from whisfusion_jax.text.tokenizer import WhisperTokenizer


@dataclass(frozen=True)
class Word:
    """A word as it is written, with punctuation."""

    text: str
    confidence: float
    """The least of its tokens' probabilities."""
    fixed_at: int
    """The step that wrote its last token."""


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
    """The step, from 1, that wrote each token."""
    words: tuple[Word, ...]
    steps: int
    """Passes of the decoder until the text was there."""
    avg_logprob: float
    """Mean log-probability of the tokens and the end token."""
    no_speech_prob: float | None
    """Whisper's own probability that nobody speaks; None where its decoder didn't run."""


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
        """Seconds of audio per second of computing."""
        return self.seconds / self.compute_seconds

    @property
    def steps(self) -> float:
        """Passes of the decoder, the mean over the windows."""
        return sum(segment.steps for segment in self.segments) / max(len(self.segments), 1)

    def to_json(self, file: str) -> str:
        """One line of JSON: the recording's file name, then every field."""
        return json.dumps({"file": file, **dataclasses.asdict(self)}, ensure_ascii=False)


def group_words(
    tokens: Sequence[int],
    confidences: Sequence[float],
    fixed_at: Sequence[int],
    tokenizer: WhisperTokenizer,
) -> tuple[Word, ...]:
    """Tokens to words: one begins where a token begins with a blank.

    A script without blanks gives one word from blank to blank.
    """
    begins = [i for i, token in enumerate(tokens) if not i or tokenizer.begins_word(token)]
    words = []
    for begin, end in itertools.pairwise([*begins, len(tokens)]):
        text = tokenizer.decode(tokens[begin:end]).strip()
        words.append(Word(text, min(confidences[begin:end]), max(fixed_at[begin:end])))
    return tuple(word for word in words if word.text)
