"""Live captions: which words stand, what is heard again, where utterances begin and end."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.parallel.launch import ROOT
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.captions import Captions, CaptionsConfig, Utterance, settled
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.words import Word, group_words, word_spans

BY_HAND = CaptionsConfig(silence=None)


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return Bundle.open(find_bundle("tiny.en")).tokenizer


def said(tokenizer: WhisperTokenizer, text: str, ends: Sequence[float]) -> Transcript:
    """A window's text, whose words end after so many seconds."""
    tokens = tuple(tokenizer.encode(" " + text)) if text else ()
    begins = {begin: 0.0 if not n else ends[n - 1] for n, (begin, _) in
              enumerate(word_spans(tokens, tokenizer, None))} if tokens else {}  # fmt: skip
    behind = {end: ends[n] for n, (_, end) in
              enumerate(word_spans(tokens, tokenizer, None))} if tokens else {}  # fmt: skip
    sure = (1.0,) * len(tokens)
    words = group_words(
        tokens, sure, (1,) * len(tokens), tokenizer, None, lambda a, b: (begins[a], behind[b])
    ) if tokens else ()  # fmt: skip
    segment = Segment(0, 1, text, tokens, sure, (1,) * len(tokens), words, 1, 0.0, None)
    return Transcript(text, None, 1, (segment,), 0.0)


class Heard:
    """Captions of seconds that come, and of what each round is told."""

    def __init__(self, tokenizer: WhisperTokenizer, config: CaptionsConfig = BY_HAND) -> None:
        self.captions = Captions(tokenizer, None, config)
        self.tokenizer = tokenizer

    def round(self, seconds: float, text: str, ends: Sequence[float]) -> list[str]:
        """So much more, and what is heard of the window then."""
        self.captions.add(np.zeros(int(seconds * 16_000), np.float32))
        self.captions.window(self.now)
        found = said(self.tokenizer, text, ends)
        return [word.text for word in self.captions.take(self.now, found)]

    @property
    def now(self) -> Utterance:
        return self.captions.open[-1]


def test_what_two_rounds_say_alike_stands(tokenizer: WhisperTokenizer) -> None:
    heard = Heard(tokenizer)
    assert heard.round(1, "The first bug", [0.2, 0.6, 0.9]) == []
    assert heard.round(1, "The first books were", [0.2, 0.6, 1.2, 1.9]) == ["The", "first"]
    assert tokenizer.decode(heard.now.tokens) == " The first"
    assert heard.round(1, "The first books were printed", [0.2, 0.6, 1.2, 1.9, 2.9]) == [
        "books",
        "were",
    ]
    assert heard.now.text == "The first books were"
    assert [word.text for word in heard.now.guess] == ["printed"]


def test_a_word_at_the_end_may_go_on(tokenizer: WhisperTokenizer) -> None:
    heard = Heard(tokenizer)
    heard.round(1, "rail", [0.95])
    assert heard.round(0.2, "rail", [1.15]) == []
    assert heard.round(0.5, "railway", [1.2]) == []
    assert heard.round(0.5, "railway", [1.2]) == ["railway"]


def test_a_full_stop_is_none_until_somebody_goes_on(tokenizer: WhisperTokenizer) -> None:
    heard = Heard(tokenizer)
    heard.round(2, "black letter.", [0.5, 1.0])
    assert heard.round(0.2, "black letter.", [0.5, 1.0]) == ["black", "letter"]
    assert tokenizer.decode(heard.now.tokens) == " black letter"
    heard.round(1, "black letter, which was", [0.5, 1.0, 2.0, 2.5])
    assert heard.round(1, "black letter, which was", [0.5, 1.0, 2.0, 2.5]) == ["which", "was"]
    assert heard.now.text == "black letter, which was"


def test_what_stands_is_heard_no_more_after_a_while(tokenizer: WhisperTokenizer) -> None:
    heard = Heard(tokenizer, CaptionsConfig(silence=None, window=6))
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    for count in range(1, 8):
        heard.round(1, " ".join(words[:count]), [each + 0.5 for each in range(count)])
    assert heard.now.text == "one two three four five six"
    begun = heard.now.window / 16_000
    assert 1.5 <= begun < 6
    standing = tokenizer.decode(heard.now.tokens).split()
    assert heard.now.text.endswith(" ".join(standing))
    assert len(standing) < 6
    # The next window begins there, and so does its text.
    ends = [float(each) for each in range(1, len(standing) + 3)]
    heard.round(1, " ".join([*standing, "seven", "eight"]), ends)
    heard.round(1, " ".join([*standing, "seven", "eight"]), ends)
    assert heard.now.text == "one two three four five six seven eight"
    assert heard.now.words[-1].end == pytest.approx(begun + ends[-1])


def test_an_utterance_that_does_not_end_is_parted_between_words(
    tokenizer: WhisperTokenizer,
) -> None:
    captions = Captions(tokenizer, None, CaptionsConfig(window=6, longest=12))
    speech = read_audio(ROOT / "samples/LJ001-0018.flac")
    speech = np.concatenate([speech[:100_000]] * 4)
    shown: list[str] = []
    texts: dict[int, str] = {}
    spoken = 0
    for begin in range(0, len(speech), 8000):
        captions.add(speech[begin : begin + 8000])
        while (each := captions.due()) is not None:
            if each.over:
                texts[each.number] = each.text
                captions.close(each)
                continue
            window = captions.window(each)
            first = each.begin + each.window
            spoken_here = range(round(first / 8000), (first + len(window)) // 8000)
            ends = [(8000 * (n + 1) - first) / 16_000 for n in spoken_here]
            text = " ".join(f"w{n}" for n in spoken_here)
            shown += [word.text for word in captions.take(each, said(tokenizer, text, ends))]
            spoken = each.number
    assert spoken > 1
    assert texts
    numbers = [int(word[1:]) for word in shown]
    assert numbers == sorted(set(numbers))


def test_pauses_end_utterances_and_silence_is_none(tokenizer: WhisperTokenizer) -> None:
    captions = Captions(tokenizer, None, CaptionsConfig(silence=0.5, edge=0.3))
    speech = read_audio(ROOT / "samples/LJ001-0002.flac")
    silence = np.zeros(24_000, np.float32)
    stream = np.concatenate([silence, speech, silence, speech, silence])
    for begin in range(0, len(stream), 1000):
        captions.add(stream[begin : begin + 1000])
    captions.end()
    assert [each.over for each in captions.open] == [True, True]
    for each, at in zip(captions.open, (24_000, 48_000 + len(speech)), strict=True):
        assert abs(each.begin - at) < 8000
        assert abs(len(each.samples) - len(speech)) < 12_000
        assert np.array_equal(each.samples, stream[each.begin :][: len(each.samples)])


@pytest.mark.parametrize(
    ("shown", "found", "last"),
    [
        ({"by": 0.9, "Thames": 1.0}, {"By": 0.8, "Tems": 0.2}, "By Thames"),
        ({"by": 0.9, "Thames": 1.0}, {"By": 0.8, "terms.": 0.7}, "By terms."),
        ({"Thames": 1.0}, {"By": 0.3, "the": 0.3}, "By the"),
        ({"the": 1.0, "Thames": 1.0}, {"the": 0.1}, "the"),
        ({}, {"the": 0.1}, "the"),
    ],
)
def test_what_was_shown_gives_way_to_what_is_not_much_less_sure(
    shown: dict[str, float], found: dict[str, float], last: str
) -> None:
    before, now = (
        [Word(text, sure, 1, 0.0, 1.0, True) for text, sure in each.items()]
        for each in (shown, found)
    )
    assert " ".join(word.text for word in settled(before, now, 0.5)) == last


def test_who_says_where_it_ends_is_obeyed(tokenizer: WhisperTokenizer) -> None:
    captions = Captions(tokenizer, None, BY_HAND)
    samples = np.arange(40_000, dtype=np.float32)
    captions.add(samples[:30_000])
    captions.end()
    captions.add(samples[30_000:35_000])
    captions.clear()
    captions.add(samples[35_000:])
    captions.end()
    first, second = captions.open
    assert np.array_equal(first.samples, samples[:30_000])
    assert len(second.samples) == 5000
