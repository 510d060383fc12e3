"""Words that are known, in their places."""

import itertools
from functools import partial
from pathlib import Path

import pytest

import whisfusion_jax
from tests.conftest import SAMPLES
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.decoding.denoising import FREE
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.fixing import Known, with_known

BUNDLES = Path(whisfusion_jax.__file__).parent / "assets/bundles"
CLIP = SAMPLES / "LJ001-0018.flac"


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return Bundle.open(BUNDLES / "base").tokenizer


def put(
    text: str, *fixes: str, tokenizer: WhisperTokenizer, language: str = "en", unsure: str = ""
) -> str | None:
    """A text with what is known; a dot for each token that is asked anew."""
    tokens = tokenizer.encode(text)
    sure = [0.1 if tokenizer.decode([each]).strip() == unsure else 0.9 for each in tokens]
    known = [Known.parse(fix) for fix in fixes]
    placed = with_known(tokens, sure, known, tokenizer, language)
    if placed is None:
        return None
    runs = itertools.groupby(placed.masked(), lambda each: each == FREE)
    return "".join(
        " ·" * len(list(run)) if free else tokenizer.decode(list(run)) for free, run in runs
    )


def test_known_words_stand_where_something_like_them_was(tokenizer: WhisperTokenizer) -> None:
    text = ' We saw "Lemster", and then Cubic was there.'
    assert put(text, "Leominster", tokenizer=tokenizer) == text.replace("Lemster", "Leominster")
    assert put(text, "Cubic=Stanley Kubrick", "Leominster", tokenizer=tokenizer) == text.replace(
        "Lemster", "Leominster"
    ).replace("Cubic", "Stanley Kubrick")
    assert put(" Black letter books.", "blackletter", tokenizer=tokenizer) == " blackletter books."


def test_what_is_unsure_near_them_is_asked_anew(tokenizer: WhisperTokenizer) -> None:
    found = put(" A whale and an oil came.", "oil=owl", tokenizer=tokenizer, unsure="an")
    assert found == " A whale and · owl came."
    assert put(" A whale swam by and an oil came.", "oil=owl", tokenizer=tokenizer, unsure="A") == (
        " A whale swam by and an owl came."
    )


@pytest.mark.parametrize("fix", ["Winchester", "lemster=Leominster Abbey", "Lemster"])
def test_nothing_changes_where_nothing_is_like_them(fix: str, tokenizer: WhisperTokenizer) -> None:
    assert put(" We saw the Lemster boys.", fix, tokenizer=tokenizer) == (
        " We saw the Leominster Abbey boys." if "=" in fix else None
    )


def test_what_is_unsure_behind_the_last_is_left_to_whoever_looks_back(
    tokenizer: WhisperTokenizer,
) -> None:
    tokens = tokenizer.encode(" We saw the Lemster boys, and then Cubic was there.")
    known = [Known("Kubrick", "Cubic"), Known("Leominster")]
    for sure, left in ((0.1, ""), (0.9, " was there.")):
        placed = with_known(tokens, [sure] * len(tokens), known, tokenizer, "en")
        assert placed is not None
        begun = placed.begun()
        assert begun.pop() == FREE
        assert tokenizer.decode(begun) == f" We saw the Leominster boys, and then Kubrick{left}"
    assert with_known(tokens, [0.1] * len(tokens), [Known("Bath")], tokenizer, "en") is None


def test_scripts_without_blanks(tokenizer: WhisperTokenizer) -> None:
    text = "他在北京大学学习中文。"
    assert put(text, "北京大学=清华大学", tokenizer=tokenizer, language="zh") == text.replace(
        "北京", "清华"
    )


@pytest.mark.parametrize("fix", ["", "=", "one=", "=one", "..."])
def test_no_words_are_refused(fix: str) -> None:
    with pytest.raises(WhisfusionError, match="fix"):
        Known.parse(fix)


def test_who_writes_every_token_anew_is_told_none() -> None:
    with pytest.raises(WhisfusionError, match="fix: ar writes on from no words"):
        Transcriber.from_bundle("tiny.en", decoder="ar", fix=["one"])


@pytest.mark.parametrize("decoder", ["diffusion", "exact"])
def test_a_transcript_has_them_and_their_times(
    decoder: DecoderName, request: pytest.FixtureRequest
) -> None:
    if decoder == "exact":
        request.getfixturevalue("tiny_en")
    opened = partial(Transcriber.from_bundle, "tiny.en", decoder=decoder, word_times=True)
    plain, fixed = opened(), opened(fix=["Gothic=Gotisch"])
    before, after = plain.transcribe(CLIP), fixed.transcribe(CLIP)
    assert after.text == before.text.replace("Gothic", "Gotisch")
    (word,) = [each for each in after.words if each.text == "Gotisch"]
    (heard,) = [each for each in before.words if each.text == "Gothic"]
    assert word.confidence == 1
    assert word.fixed_at == 0
    assert (word.start, word.end) == pytest.approx((4.2, heard.end), abs=0.3)
