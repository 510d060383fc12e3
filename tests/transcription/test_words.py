"""Words of scripts with and without blanks."""

from dataclasses import replace
from pathlib import Path

import pytest

import whisfusion_jax
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.subtitles import SubtitleOptions, subtitles
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.words import Word, group_words, joined

SENTENCES = {
    "de": "Möwen fliegen, über 12 große Häuser – und zurück.",
    "ja": "「今日は天気がいいですね。」と彼女は言った。",
    "zh": "他在北京大学学习中文,已经三年了。",
    "th": "วันนี้อากาศดีมาก",
}


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    """Of the multilingual models."""
    return Bundle.open(Path(whisfusion_jax.__file__).parent / "assets/bundles/base").tokenizer


def words_of(text: str, language: str, tokenizer: WhisperTokenizer) -> tuple[Word, ...]:
    """A tenth of a second a token."""
    tokens = tokenizer.encode(text)
    sure = [1 - number / 100 for number in range(len(tokens))]
    steps = list(range(1, len(tokens) + 1))
    when = lambda begin, end: (begin / 10, end / 10)  # noqa: E731
    return group_words(tokens, sure, steps, tokenizer, language, when)


@pytest.mark.parametrize("language", list(SENTENCES))
def test_words_make_up_the_text_and_its_times(language: str, tokenizer: WhisperTokenizer) -> None:
    words = words_of(SENTENCES[language], language, tokenizer)
    assert joined((word.text, word.blank) for word in words) == SENTENCES[language].strip()
    assert len(words) > 4
    ends = [word.end for word in words]
    assert [word.start for word in words] == [0.0, *ends[:-1]]
    assert "\ufffd" not in "".join(word.text for word in words)


def test_closing_punctuation_stays_with_its_word(tokenizer: WhisperTokenizer) -> None:
    words = words_of(SENTENCES["ja"], "ja", tokenizer)
    assert next(word.text for word in words if "。" in word.text).endswith("」")
    assert all(word.text not in "。」、" for word in words)


def test_subtitles_and_texts_have_blanks_where_they_are_written(
    tokenizer: WhisperTokenizer,
) -> None:
    words = words_of(SENTENCES["zh"], "zh", tokenizer)
    shown = subtitles(words, "srt", SubtitleOptions(max_line_width=60))
    assert SENTENCES["zh"] in shown
    segment = Segment(0, 9, SENTENCES["zh"], (), (), (), words, 1, 0.0, None)
    text = Transcript("", "zh", 9, (segment, replace(segment, start=9)), 1)
    assert not segment.blank
    assert " " not in text.to_tsv(SubtitleOptions(max_line_width=60)).split("\n", 1)[1]
