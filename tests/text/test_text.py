from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support import SPECIAL, byte_tokenizer
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.text.suppression import default_rules
from whisfusion_jax.text.tokenizer import WhisperTokenizer, open_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> WhisperTokenizer:
    return open_tokenizer(tokenizer_file)


def test_special_tokens_go_by_name(tokenizer: WhisperTokenizer) -> None:
    assert (tokenizer.end, tokenizer.start) == (256, 257)
    assert tokenizer.languages == {"en": 258, "de": 259}
    assert tokenizer.no_speech == 264
    assert tokenizer.prompt(None) == [257, 265]
    assert tokenizer.prompt("de") == [257, 259, 261, 265]
    assert tokenizer.prompt("de", "translate") == [257, 259, 260, 265]
    with pytest.raises(WhisfusionError, match=r"no token <\|nothing\|>"):
        tokenizer.special("<|nothing|>")
    with pytest.raises(WhisfusionError, match="'xx' is unknown; known are: de en"):
        tokenizer.prompt("xx")


@given(text=st.text(max_size=40))
def test_text_survives_the_round_trip(text: str, tokenizer: WhisperTokenizer) -> None:
    # A special token's name is that token, not text (hypothesis finds the names in our sources).
    assume(not any(name in text for name in SPECIAL))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_not_text(tokenizer: WhisperTokenizer) -> None:
    tokens = [257, 265, *tokenizer.encode("hello"), 256]
    assert tokenizer.decode(tokens) == "hello"


@pytest.mark.parametrize("content", ["", "{}", "no json"])
def test_what_is_no_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WhisfusionError, match=r"tokenizer\.json: no readable tokenizer"):
        open_tokenizer(tmp_path / "tokenizer.json")


def test_another_models_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_tokenizer().replace("<|startoftranscript|>", "<|start|>"))
    with pytest.raises(WhisfusionError, match=r"no token <\|startoftranscript\|>"):
        open_tokenizer(path)


def test_derived_suppression_equals_what_the_checkpoint_lists(tiny_en: Bundle) -> None:
    assert default_rules(tiny_en.tokenizer) == tiny_en.config.rules


def test_derived_suppression_equals_the_multilingual_one(base: Bundle) -> None:
    assert default_rules(base.tokenizer) == base.config.rules


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (None, "Mr. Smith's colour, um, is twenty-one!", "mister smith is color is 21"),
        ("en", "I won't pay $5.", "i will not pay $5"),
        ("de", "Grüß Gott, Welt!", "grüß gott welt"),
        ("zh", "你好，世界", "你 好 世 界"),
    ],
)
def test_normalisers(language: str | None, text: str, expected: str) -> None:
    assert " ".join(normaliser_for(language)(text).split()) == expected
