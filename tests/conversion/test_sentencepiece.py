"""SentencePiece models as tokenizers, against what SentencePiece itself made of some texts."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from whisfusion_jax.conversion.sentencepiece import tokenizer_json
from whisfusion_jax.errors import ConversionError

TEXTS = (
    "I should rather enjoy the brickbats and hooting, I think.",
    "Something seemed to gnaw him inside.",
    "  Grüße aus  Köln: 12½ km, ça va? ",
    "Hello there",
    "日本語 and naïve café",
    "",
)
"""Some of whose letters the models know."""
KINDS = ("unigram", "bpe")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_encoded_and_decoded_alike(kind: str, recorded: Mapping[str, np.ndarray]) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json([recorded[f"spm_{kind}"].tobytes()]))
    for text, expected in zip(TEXTS, json.loads(str(recorded[f"spm_{kind}_texts"])), strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == expected["tokens"], text
        decoded = tokenizer.decode(expected["tokens"], skip_special_tokens=False)
        # What neither can spell shows under another name.
        assert decoded == expected["text"].replace(" ⁇ ", "<unk>"), text


@given(st.binary(max_size=60))
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ConversionError, match="x.model: "):
        tokenizer_json([content], name="x.model")


def test_a_cut_model_is_refused(recorded: Mapping[str, np.ndarray]) -> None:
    whole = recorded["spm_bpe"].tobytes()
    with pytest.raises(ConversionError, match="no SentencePiece model"):
        tokenizer_json([whole[: len(whole) // 2 + 1]])
