"""A shortlist writes every text, and only what a denoiser may."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import open_tokenizer


@pytest.fixture(scope="module")
def shortlist(tiny_en: Bundle) -> Shortlist:
    return Shortlist.of_texts(["The cat sat on the mat."], tiny_en.tokenizer)


def test_what_it_lacks_is_spelled(shortlist: Shortlist, tiny_en: Bundle) -> None:
    assert len(shortlist) < 500
    for text in ("the mat", "Gutenberg's printing", "日本 naïve"):
        written = shortlist.to_whisper(shortlist.encode(text))
        assert tiny_en.tokenizer.decode(written) == " " + text


def test_known_texts_keep_their_tokens(shortlist: Shortlist, tiny_en: Bundle) -> None:
    written = shortlist.to_whisper(shortlist.encode("The cat sat on the mat."))
    assert written == tiny_en.tokenizer.encode(" The cat sat on the mat.")


@given(text=st.text(max_size=20).filter(lambda t: "<|" not in t))
def test_any_text_survives(text: str, tokenizer_file: Path) -> None:
    tokenizer = open_tokenizer(tokenizer_file)
    shortlist = Shortlist.of_texts([], tokenizer)
    decoded = tokenizer.decode(shortlist.to_whisper(shortlist.encode(text)))
    assert decoded.strip() == text.strip()


def test_prompts_are_read_and_never_written(shortlist: Shortlist, tiny_en: Bundle) -> None:
    prompt = shortlist.from_whisper(tiny_en.tokenizer.prompt(None))
    assert set(prompt) <= set(shortlist.special)
    assert shortlist.end not in shortlist.special
