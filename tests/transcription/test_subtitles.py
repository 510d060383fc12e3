"""Cues that can be read, in files that players take."""

from datetime import timedelta
from io import StringIO

import pysubs2
import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.subtitles import SubtitleOptions, cues, subtitles
from whisfusion_jax.transcription.words import Word


def said(text: str, pace: float = 0.3, start: float = 0.0) -> list[Word]:
    """Each word of a text, one after the other."""
    return [
        Word(word, 1.0, 1, start + pace * i, start + pace * (i + 1))
        for i, word in enumerate(text.split())
    ]


def lines(words: list[Word], options: SubtitleOptions = SubtitleOptions()) -> list[list[str]]:  # noqa: B008
    return [[" ".join(w.text for w in line) for line in cue] for cue in cues(words, options)]


def test_a_cue_ends_behind_a_sentence_and_at_a_pause() -> None:
    words = said("One of them, i.e. the first. Two") + said("and three", start=5)
    assert lines(words) == [["One of them, i.e. the first."], ["Two"], ["and three"]]


def test_lines_are_as_short_as_is_asked() -> None:
    words = said("The first books were printed in black letter", pace=0.1)
    assert lines(words, SubtitleOptions(16, 2)) == [
        ["The first books", "were printed in"],
        ["black letter"],
    ]
    assert lines(words, SubtitleOptions(max_words_per_line=3, max_line_count=1)) == [
        ["The first books"],
        ["were printed in"],
        ["black letter"],
    ]


def test_no_cue_stands_longer_than_seven_seconds() -> None:
    assert [len(cue[0]) for cue in lines(said("a " * 20, pace=0.9))] == [13, 13, 11]


WORDS = st.lists(
    st.tuples(
        st.text("abcE.?&<>{}-", min_size=1, max_size=60),
        st.floats(0, 3),
        st.floats(0, 2),
    ),
    max_size=40,
)


@given(drawn=WORDS, kind=st.sampled_from(["srt", "vtt"]), highlighted=st.booleans())
def test_any_words_make_a_file_in_order_without_overlaps(
    drawn: list[tuple[str, float, float]], kind: str, highlighted: bool
) -> None:
    words, now = [], 0.0
    for text, pause, length in drawn:
        words.append(Word(text, 1.0, 1, now + pause, now + pause + length))
        now += pause + length
    text = subtitles(words, kind, SubtitleOptions(highlight_words=highlighted))  # type: ignore[arg-type]
    read = pysubs2.SSAFile.from_file(StringIO(text), format_=kind)
    ends = [time for event in read for time in (event.start, event.end)]
    assert ends == sorted(ends)
    if not highlighted and kind == "srt" and not any(set("<>{}-") & set(w.text) for w in words):
        assert " ".join(event.plaintext.replace("\n", " ") for event in read).split() == [
            word.text for word in words
        ]


@given(
    drawn=st.lists(
        st.tuples(st.text("abcE.?", min_size=1, max_size=60), st.floats(0, 3), st.floats(0.01, 2)),
        min_size=1,
        max_size=40,
    )
)
def test_a_second_parser_of_each_format_reads_the_same(
    drawn: list[tuple[str, float, float]],
) -> None:
    words, now = [], 0.0
    for text, pause, length in drawn:
        begin, now = now + pause, now + pause + length
        words.append(Word(text, 1.0, 1, begin, now))
    ours = pysubs2.SSAFile.from_string(subtitles(words, "srt"), format_="srt")
    parsed = list(srt.parse(subtitles(words, "srt")))
    millisecond = timedelta(milliseconds=1)
    spans = [(cue.start // millisecond, cue.end // millisecond) for cue in parsed]
    assert spans == [(event.start, event.end) for event in ours]
    captions = list(webvtt.from_string(subtitles(words, "vtt")))
    said = [" ".join(caption.text.split()) for caption in captions]
    assert said == [" ".join(cue.content.split()) for cue in parsed]


def test_the_word_that_is_spoken_is_underlined() -> None:
    text = subtitles(said("one two"), "srt", SubtitleOptions(highlight_words=True))
    assert "<u>one</u> two" in text
    assert "one <u>two</u>" in text
    assert "00:00:00,300 --> 00:00:00,600" in text


def test_an_ampersand_is_escaped_for_the_web() -> None:
    assert "R&amp;D &lt;b&gt;" in subtitles(said("R&D <b>"), "vtt")


def test_words_without_times_are_refused() -> None:
    with pytest.raises(WhisfusionError, match="need word times"):
        subtitles([Word("one", 1.0, 1)], "srt")


def test_lines_of_nothing_are_refused() -> None:
    with pytest.raises(WhisfusionError, match="at least 1"):
        SubtitleOptions(max_line_count=0)
