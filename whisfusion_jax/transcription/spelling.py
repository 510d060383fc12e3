"""A decoder's tokens to segments, and known words to its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.quiet import quiet_frames, without_quiet
from whisfusion_jax.audio.windows import Window
from whisfusion_jax.config import FRAMES_PER_SECOND
from whisfusion_jax.decoding.denoising import FREE
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.decoders import Texts
from whisfusion_jax.transcription.pieces import Piece
from whisfusion_jax.transcription.transcript import Segment
from whisfusion_jax.transcription.winner import Winner, pick_winner
from whisfusion_jax.transcription.words import group_words


@dataclass(frozen=True)
class Speller:
    """How a decoder counts tokens, and which of its candidates counts."""

    tokenizer: WhisperTokenizer
    shortlist: Shortlist | None
    """By which the decoder counts; None is as Whisper does."""
    winner: Winner

    @property
    def _end(self) -> int:
        return self.shortlist.end if self.shortlist else self.tokenizer.end

    def given(self, tokens: Sequence[int], room: int) -> list[int] | None:
        """Whisper's tokens and FREE as the decoder counts them.

        Args:
            room: tokens of the canvas.

        Returns:
            a whole canvas, or None if it is too short.
        """
        own = list(tokens)
        if self.shortlist:
            spelled = [[FREE] if each == FREE else self.shortlist.respell([each]) for each in own]
            own = [token for each in spelled for token in each]
        if own[-1] != FREE:
            own.append(self._end)
        return [*own, *[FREE] * (room - len(own))] if len(own) <= room else None

    def segment(self, piece: Piece, texts: Texts, row: int, most: int | None = None) -> Segment:
        """The winning candidate's.

        Args:
            most: tokens, of a text that is cut there.
        """
        language, end = piece.recording.language, self._end
        written = [each.tolist() for each in texts.tokens[row]]
        lengths = [each.index(end) if end in each else len(each) for each in written]
        tokens = [each[:length] for each, length in zip(written, lengths, strict=True)]
        if self.shortlist:
            tokens = [self.shortlist.to_whisper(each) for each in tokens]
        spoken = [self.tokenizer.decode(each).strip() for each in tokens]
        sure = [each[:length] for each, length in zip(texts.confidence[row], lengths, strict=True)]
        best = pick_winner(spoken, sure, self.winner, language)
        length, confidence = lengths[best], texts.confidence[row, best]
        own = tokens[best][:most]
        fixed_at = texts.fixed_at[row, best, : len(own)].tolist()
        no_speech = float(texts.no_speech[row])
        when = None
        if texts.begins is not None:
            begins = texts.begins[row, best].tolist()
            when = partial(_when, piece.window, quiet_frames(piece.samples), begins)
        return Segment(
            start=piece.window.start / SAMPLE_RATE,
            end=piece.window.end / SAMPLE_RATE,
            text=self.tokenizer.decode(own).strip(),
            tokens=tuple(own),
            confidences=tuple(confidence[: len(own)].tolist()),
            fixed_at=tuple(fixed_at),
            words=group_words(own, confidence.tolist(), fixed_at, self.tokenizer, language, when),
            steps=int(texts.steps[row, best]),
            avg_logprob=float(np.log(np.maximum(confidence[: length + 1], 1e-30)).mean()),
            no_speech_prob=no_speech if np.isfinite(no_speech) else None,
        )


def _when(
    cut: Window, quiet: np.ndarray, begins: Sequence[int], first: int, last: int
) -> tuple[float, float]:
    """From one token to before another, without pauses, in seconds of the recording."""
    begin, end = without_quiet(quiet, begins[first], begins[last])
    return cut.seconds(begin / FRAMES_PER_SECOND, end / FRAMES_PER_SECOND)
