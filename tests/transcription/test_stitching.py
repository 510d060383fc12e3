"""Texts of windows that overlap, without a seam."""

from pathlib import Path

import jiwer
import numpy as np
import pytest

import whisfusion_jax
from tests.conftest import SAMPLES
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.voice import MOMENT, speech_probabilities
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.stitching import stitched
from whisfusion_jax.transcription.transcript import Segment
from whisfusion_jax.transcription.words import group_words


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    bundles = Path(whisfusion_jax.__file__).parent / "assets/bundles"
    return Bundle.open(bundles / "base").tokenizer


def segment(
    text: str, start: float, end: float, tokenizer: WhisperTokenizer, language: str
) -> Segment:
    tokens = tuple(tokenizer.encode(text))
    pace = (end - start) / max(len(tokens), 1)
    sure = (0.9,) * len(tokens)
    steps = tuple(range(len(tokens)))
    words = group_words(
        tokens, sure, steps, tokenizer, language,
        lambda first, last: (start + pace * first, start + pace * last),
    )  # fmt: skip
    return Segment(start, end, text.strip(), tokens, sure, steps, words, 1, 0.0, None)


def stitch(first: str, second: str, tokenizer: WhisperTokenizer, language: str = "en") -> str:
    before, after = stitched(
        segment(first, 0, 9, tokenizer, language),
        segment(second, 8, 17, tokenizer, language),
        tokenizer,
        language,
    )
    assert before.end == after.start == 8.5
    words = (*before.words, *after.words)
    for each in (before, after):
        assert tokenizer.decode(each.tokens).strip() == each.text
        assert len(each.tokens) == len(each.confidences) == len(each.fixed_at)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert [
        word.text for word in words
    ] == f"{before.text} {after.text}".split() or language == "zh"
    return f"{before.text}|{after.text}"


def test_what_both_say_is_said_once(tokenizer: WhisperTokenizer) -> None:
    assert stitch(" It was dialed by the", " dialed by the owner.", tokenizer) == (
        "It was dialed by|the owner."
    )


def test_what_is_broken_is_given_up(tokenizer: WhisperTokenizer) -> None:
    assert stitch(
        " to an inter exchange or IAX con.", " AX exchange or IAX connection", tokenizer
    ) == ("to an inter exchange or|IAX connection")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (" The owner came.", " Nobody knew him."),
        (" The owner came.", ""),
        ("", " Nobody knew him."),
        # The same words, but too far from the seam.
        (" You can go home now by this train", " and you can go home later"),
    ],
)
def test_texts_that_share_nothing_there_stay(
    first: str, second: str, tokenizer: WhisperTokenizer
) -> None:
    assert stitch(first, second, tokenizer) == f"{first.strip()}|{second.strip()}"


def test_scripts_without_blanks(tokenizer: WhisperTokenizer) -> None:
    found = stitch("他在北京大学学习", "大学学习中文。", tokenizer, "zh")
    assert found.replace("|", "") == "他在北京大学学习中文。"


def test_speech_without_a_pause_loses_no_word_where_it_is_cut() -> None:
    samples = read_audio(SAMPLES / "LJ001-0018.flac")
    unbroken = []
    for piece, probabilities in speech_probabilities([samples]):
        moments = [piece[at : at + MOMENT] for at in range(0, len(piece), MOMENT)]
        unbroken += [m for m, p in zip(moments, probabilities, strict=True) if p > 0.5]
    speech = np.concatenate(unbroken)
    transcriber = Transcriber.from_bundle("tiny.en", decoder="ar", window=5.5)
    found = transcriber.transcribe(speech)
    assert len(speech) / SAMPLE_RATE > 5.5
    assert len(found.segments) > 1
    whole = Transcriber.from_bundle("tiny.en", decoder="ar").transcribe(speech)
    assert jiwer.wer(whole.text, found.text) <= 0.1
    assert [each.end for each in found.segments[:-1]] == [each.start for each in found.segments[1:]]
