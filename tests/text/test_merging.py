"""Pieces of words become the tokens that Whisper's tokenizer makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.text.shortlist import Shortlist

PIECES, ROOM = 512, 64
SENTENCES = (
    "The latter has agreed to subsidize one company of artillery.",
    "He's an idealist, isn't he?",
    "Printing, in 1867, cost $3.50 a page",
    "Außergewöhnlich naïve 日本",
    "",
)


@pytest.fixture(scope="module")
def merges(tiny_en: Bundle) -> Merges:
    return Merges.of(tiny_en.tokenizer)


@pytest.fixture(scope="module")
def pieces(tiny_en: Bundle) -> Shortlist:
    return Shortlist.of_texts([], tiny_en.tokenizer, PIECES)


@pytest.fixture(scope="module")
def bytewise(tiny_en: Bundle) -> Shortlist:
    return Shortlist.of_texts([], tiny_en.tokenizer)


@jax.jit
def merge(merges: Merges, pieces: jax.Array, sure: jax.Array) -> tuple[jax.Array, jax.Array]:
    return merges(pieces, sure)


def merged(merges: Merges, rows: list[list[int]]) -> list[list[int]]:
    filled = [[*row, *[-1] * ROOM][:ROOM] for row in rows]
    tokens, _ = merge(merges, jnp.array(filled, jnp.int32), jnp.ones((len(rows), ROOM)))
    return [[token for token in row if token >= 0] for row in np.asarray(tokens).tolist()]


def test_sentences_merge_as_the_tokenizer_writes_them(
    merges: Merges, pieces: Shortlist, tiny_en: Bundle
) -> None:
    tokens = [tiny_en.tokenizer.encode(" " + text) for text in SENTENCES]
    apart = [pieces.respell(row) for row in tokens]
    assert all(piece < PIECES for row in apart for piece in row)
    assert merged(merges, apart) == tokens


WORDS = st.text("abcdeghilmnorstu' .", max_size=25)


@settings(deadline=None)
@given(text=WORDS)
def test_no_text_changes(text: str, merges: Merges, bytewise: Shortlist, tiny_en: Bundle) -> None:
    tokenizer = tiny_en.tokenizer
    spelled = bytewise.respell(tokenizer.encode(text))
    (tokens,) = merged(merges, [spelled])
    assert tokenizer.decode(tokens) == text


def test_a_token_is_as_sure_as_its_least_sure_piece(merges: Merges, tiny_en: Bundle) -> None:
    # " there was" out of its letters.
    letters = [tiny_en.tokenizer.encode(letter)[0] for letter in " there was"]
    sure = jnp.linspace(0.1, 1.0, len(letters))[None, ::-1]
    tokens, least = merge(merges, jnp.array([letters]), sure)
    there, was = tiny_en.tokenizer.encode(" there was")
    np.testing.assert_array_equal(tokens[0, :3], [there, was, -1])
    np.testing.assert_allclose(least[0, :3], [0.5, 0.1, 1.0], rtol=1e-6)
