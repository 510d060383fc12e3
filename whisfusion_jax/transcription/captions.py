"""Live captions: speech as it comes, heard round by round; words that stay the same stand.

Each round hears the last few seconds and writes on from the words that stand (a denoiser takes them
as given). What two rounds in a row say alike, from the first word on, stands (local agreement, as
Macháček et al., 2023, have it); behind a pause the whole utterance is heard once more at leisure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import takewhile

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.voice import MOMENT, Voice
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.transcript import Transcript
from whisfusion_jax.transcription.words import Word, joined, word_spans

_SPEAKS, _SILENT = 0.5, 0.35
"""Probabilities at which speech begins, and below which it ends (Silero's own)."""
_BEGINS = 3
"""Moments of speech in a row that begin an utterance."""
_MARKS = ".,:;?!\u2026\u3002\uff0c\u3001"
"""What may stand behind a word and change once somebody goes on."""


@dataclass(frozen=True)
class CaptionsConfig:
    """When rounds are heard, in seconds."""

    step: float = 0.4
    """New audio that is worth a round: two that agree have heard the more between them."""
    silence: float | None = 1.0
    """That ends an utterance, which is written the better the longer it is; None: whoever sends the
    audio says where one ends."""
    window: float = 9.0
    """That a round hears; what is earlier and stands is heard no more."""
    narrow: float = 5.0
    """Instead of `window`, where rounds take long: others are heard beside."""
    longest: float = 24.0
    """An utterance; longer ones are parted between two words."""
    margin: float = 0.4
    """The last word is taken for whole so long before the audio's end."""
    edge: float = 0.6
    """That is kept before the speech, and behind it."""
    yields: float = 0.5
    """No seconds: words that were shown give way to others that are more than so much as sure."""


@dataclass(eq=False)
class Utterance:
    """What is said between two pauses."""

    number: int
    begin: int
    """Its first sample, of the recording."""
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """[n] float32: all of it so far."""
    over: bool = False
    """Nothing more comes."""
    words: list[Word] = field(default_factory=list)
    """Those that stand; times in seconds of the recording."""
    guess: list[Word] = field(default_factory=list)
    """What the last round says beside."""
    heard: int = 0
    """Samples of the last round's."""
    window: int = 0
    """The first sample that rounds hear."""
    tokens: tuple[int, ...] = ()
    """Of the words that stand in the window."""
    standing: int = 0
    """Words that stand in the window."""

    @property
    def text(self) -> str:
        """Of the words that stand."""
        return joined((word.text, word.blank) for word in self.words)


class Captions:
    """A recording that comes as it is spoken, to utterances."""

    def __init__(
        self, tokenizer: WhisperTokenizer, language: str | None, config: CaptionsConfig
    ) -> None:
        self.config = config
        self.language = language
        self.late = False
        """Rounds take long: less is to be heard in each."""
        self._tokenizer = tokenizer
        self._edge = int(config.edge * SAMPLE_RATE)
        self._voice = Voice()
        self._rest = np.zeros(0, np.float32)
        """Less than a moment, that the network has not seen."""
        self._before = np.zeros(0, np.float32)
        """What was there before somebody speaks."""
        self._at = self._silent = self._spoken = 0
        """Samples seen; silent ones in a row; moments of speech in a row."""
        self._count = 0
        self._now: Utterance | None = None
        self.open: list[Utterance] = []
        """Utterances that are not written to the end, in order."""

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples, [n] float32 at 16 kHz."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // MOMENT * MOMENT
        self._rest = samples[whole:]
        if not whole:
            return
        if self.config.silence is None:
            self._go_on(samples[:whole])
            return
        moments = samples[:whole].reshape(-1, MOMENT)
        for moment, probability in zip(moments, self._voice(samples[:whole]), strict=True):
            self._see(moment, float(probability), int(self.config.silence * SAMPLE_RATE))

    def end(self) -> None:
        """Nothing more comes of what is being said."""
        if self._now is not None or self.config.silence is None:
            self._go_on(self._rest)
            self._rest = np.zeros(0, np.float32)
            self._finish()

    def clear(self) -> None:
        """Forget what is being said."""
        if self._now is not None:
            self.open.remove(self._now)
        self._now, self._rest, self._spoken = None, self._rest[:0], 0

    def due(self) -> Utterance | None:
        """What is to be heard next: the first that is over, or that has grown by a step."""
        if not self.open:
            return None
        first = self.open[0]
        grown = len(first.samples) - first.heard
        return first if first.over or grown >= self.config.step * SAMPLE_RATE else None

    def window(self, utterance: Utterance) -> np.ndarray:
        """What a round hears of it, which counts as heard then: [n] float32."""
        utterance.heard = len(utterance.samples)
        return utterance.samples[utterance.window :]

    def take(self, utterance: Utterance, found: Transcript) -> list[Word]:
        """What a round found in an utterance's window.

        Returns:
            the words that stand from now on. What is behind the last one's letters may change yet:
            a comma is a full stop until somebody goes on.
        """
        segment = found.segments[0] if found.segments else None
        offset = (utterance.begin + utterance.window) / SAMPLE_RATE
        words = [_later(word, offset) for word in segment.words] if segment else []
        rest = words[utterance.standing :]
        agreed = _alike(utterance.guess, rest)
        end = (utterance.begin + utterance.heard) / SAMPLE_RATE - self.config.margin
        if agreed == len(rest) and agreed and (rest[-1].end or 0) > end:
            agreed -= 1
        utterance.guess = rest[agreed:]
        if segment is None or not agreed:
            return []
        if utterance.standing:  # with what is written behind it
            utterance.words[-1] = words[utterance.standing - 1]
        new = rest[:agreed]
        new[-1] = replace(new[-1], text=new[-1].text.rstrip(_MARKS) or new[-1].text)
        utterance.words += new
        utterance.standing += agreed
        spans = word_spans(segment.tokens, self._tokenizer, self.language)
        if len(spans) == len(words):
            utterance.tokens = self._bare(segment.tokens, spans[utterance.standing - 1])
            self._trim(utterance, words[: utterance.standing], spans)
        return new

    def _bare(self, tokens: tuple[int, ...], last: tuple[int, int]) -> tuple[int, ...]:
        """Tokens up to a word's letters."""
        begin, end = last
        while end > begin + 1 and not self._tokenizer.decode(tokens[end - 1 : end]).strip(_MARKS):
            end -= 1
        return tokens[:end]

    def close(self, utterance: Utterance) -> None:
        """It is written to the end."""
        self.open.remove(utterance)

    def _see(self, moment: np.ndarray, probability: float, silence: int) -> None:
        speaks = probability >= (_SPEAKS if self._now is None else _SILENT)
        self._silent = 0 if speaks else self._silent + MOMENT
        self._spoken = self._spoken + 1 if speaks else 0
        if self._now is None:
            kept = self._edge + _BEGINS * MOMENT
            self._before = np.concatenate([self._before, moment])[-kept:]
            self._at += MOMENT
            if self._spoken == _BEGINS:
                begun = self._begin(self._at - len(self._before))
                begun.samples, self._before = self._before, self._before[:0]
            return
        self._go_on(moment)
        heard = len(self._now.samples) - self._now.window
        if self._silent >= silence or heard >= self.config.longest * SAMPLE_RATE:
            self._finish()

    def _begin(self, at: int) -> Utterance:
        self._count += 1
        self._now = Utterance(self._count, at)
        self.open.append(self._now)
        return self._now

    def _go_on(self, samples: np.ndarray) -> None:
        now = self._now or self._begin(self._at)
        now.samples = np.concatenate([now.samples, samples])
        self._at += len(samples)

    def _finish(self) -> None:
        if self._now is not None:
            self._now.samples = self._now.samples[: len(self._now.samples) - self._idle()]
            self._now.over = True
        self._now, self._spoken = None, 0

    def _idle(self) -> int:
        """Samples of silence at the end that nobody needs."""
        return max(0, self._silent - self._edge) if self.config.silence is not None else 0

    def _trim(
        self, utterance: Utterance, words: Sequence[Word], spans: Sequence[tuple[int, int]]
    ) -> None:
        """Hear no more of what is long ago, but begin between two words that stand."""
        there = len(utterance.samples) - utterance.window
        longest = self.config.narrow if self.late else self.config.window
        if there <= longest * SAMPLE_RATE:
            return
        first = (utterance.begin + utterance.window) / SAMPLE_RATE
        gaps = list(_gaps(words, first + longest / 4))
        if not gaps:
            return
        _, number, at = max(gaps)
        cut = int(at * SAMPLE_RATE) - utterance.begin
        tokens = utterance.tokens[spans[number][0] :]
        self._begin_window(utterance, cut, utterance.standing - number, tokens)
        long = cut > 0.6 * self.config.longest * SAMPLE_RATE
        if long and self.config.silence is not None and not utterance.over:
            self._part(utterance, cut)

    def _begin_window(
        self, utterance: Utterance, cut: int, standing: int, tokens: tuple[int, ...]
    ) -> None:
        utterance.window, utterance.standing, utterance.tokens = cut, standing, tokens

    def _part(self, utterance: Utterance, cut: int) -> None:
        """End an utterance where its window begins; what is behind is another."""
        keep = len(utterance.words) - utterance.standing
        behind = self._begin(utterance.begin + cut)
        behind.samples = utterance.samples[cut:]
        behind.heard = len(behind.samples) - (len(utterance.samples) - utterance.heard)
        behind.words, utterance.words = utterance.words[keep:], utterance.words[:keep]
        behind.tokens, behind.standing = utterance.tokens, utterance.standing
        behind.guess, utterance.guess = utterance.guess, []
        utterance.samples, utterance.over = utterance.samples[:cut], True


def settled(shown: Sequence[Word], found: Sequence[Word], yields: float) -> list[Word]:
    """An utterance's last words: those found at leisure, but where others stood and were surer.

    So a caption changes less often, and as many words are wrong (docs/serving.md).

    Args:
        shown: the words that stood.
        found: those of the whole utterance, heard once more.
        yields: as in the config.
    """
    before, now = ([_letters(word) for word in words] for words in (shown, found))
    last: list[Word] = []
    for change, a, b, c, d in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        old, new = shown[a:b], found[c:d]
        stay = change == "replace" and len(old) == len(new)
        stay = stay and _sureness(new) <= yields * _sureness(old)
        last += old if stay else new
    return last


def _sureness(words: Sequence[Word]) -> float:
    return sum(word.confidence for word in words)


def rest_of(utterance: Utterance, words: Sequence[Word]) -> str:
    """What a text has behind an utterance's standing words; nothing if they are not its first."""
    count = len(utterance.words)
    if _alike(utterance.words, words) < count:
        return ""
    rest = joined((word.text, word.blank) for word in words[count:])
    return " " * bool(count and rest and words[count].blank) + rest


def _gaps(words: Sequence[Word], since: float) -> Iterator[tuple[float, int, float]]:
    """Pauses between words: how long, the number of the word behind, and the middle."""
    for number in range(1, len(words)):
        end, start = words[number - 1].end or 0.0, words[number].start or 0.0
        if (end + start) / 2 >= since:
            yield start - end, number, (end + start) / 2


def _alike(before: Sequence[Word], now: Sequence[Word]) -> int:
    """With how many of the same words both begin."""
    pairs = takewhile(
        lambda pair: _letters(pair[0]) == _letters(pair[1]), zip(before, now, strict=False)
    )
    return sum(1 for _ in pairs)


def _letters(word: Word) -> str:
    return "".join(letter for letter in word.text.casefold() if letter.isalnum()) or word.text


def _later(word: Word, seconds: float) -> Word:
    start, end = (None if at is None else at + seconds for at in (word.start, word.end))
    return Word(word.text, word.confidence, word.fixed_at, start, end, word.blank)
