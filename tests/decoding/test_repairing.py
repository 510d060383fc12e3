"""Drafts repaired everywhere at once, by a reader that knows what follows each token."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.config import TokenRules
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.decoding.repairing import Repairs, repair
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import CrossCache

N = 16
START, WORDS = 30, 12
TEXT = list(range(1, 1 + WORDS))
END, STRANGE, SIZE = 29, 25, 31
"""Tokens: those of the text, the end, one that the text hasn't, and how many there are."""
VOCABULARY = Vocabulary(TokenRules(), END)
FOUR_PASSES = Repairs(VOCABULARY, N, N, steps=4)
OWN = Repairs(VOCABULARY, N, N, steps=None)
EXACT = Repairs(VOCABULARY, N, 5, steps=N)
"""Five positions a pass."""


class Reader:
    """Knows the text: behind each of its tokens the next, behind any other nothing."""

    def __init__(self) -> None:
        scores = np.zeros((SIZE, SIZE), np.float32)
        for before, after in zip([START, *TEXT], [*TEXT, END], strict=True):
            scores[before, after] = 12.0
        self._scores = jnp.asarray(scores)

    def empty_cache(self, rows: int, length: int) -> tuple:
        return ()

    def read(self, tokens: jax.Array, cache: Any, position: int, cross: Any) -> tuple:
        return tokens, cache

    def stretch(
        self, tokens: jax.Array, start: jax.Array, size: int, *rest: Any, **how: Any
    ) -> tuple:
        at = start[..., None] + jnp.arange(size)
        return jnp.take_along_axis(tokens, at, axis=-1), ()

    def logits(self, hidden: jax.Array) -> jax.Array:
        return self._scores[hidden]


@partial(jax.jit, static_argnames="how")
def _repaired(tokens: jax.Array, sure: jax.Array, wanted: jax.Array, how: Repairs):
    prompt = jnp.full((len(tokens), 1), START)
    draft, cross = Draft(tokens, sure), CrossCache((), None)
    return repair(Reader(), cross, prompt, draft, how, wanted)[0]  # type: ignore[arg-type]


def repaired(
    texts: list[list[int]], sure: float = 0.6, wanted: bool = True, how: Repairs = FOUR_PASSES
):
    """Of drafts that are as sure everywhere."""
    tokens = np.full((len(texts), N), END, np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    rows = np.full(tokens.shape, sure, np.float32), np.full(len(texts), wanted)
    return _repaired(tokens, *rows, how)


def texts_of(found: Any) -> list[list[int]]:
    rows = np.asarray(found.tokens)[:, 0].tolist()
    return [row[: row.index(END)] for row in rows]


def test_a_right_draft_takes_one_pass() -> None:
    found = repaired([TEXT])
    assert texts_of(found) == [TEXT]
    assert found.steps.tolist() == [[1]]
    assert np.asarray(found.confidence)[0, 0, : WORDS + 1].min() > 0.99


@given(
    st.lists(
        st.sampled_from(["replaced", "missing", "too many", "right", "right"]),
        min_size=3,
        max_size=3,
    )
)
@settings(deadline=None, max_examples=25)
def test_mistakes_apart_are_mended_together(kinds: list[str]) -> None:
    """One in each third of the text: the same passes as for the worst of them."""
    draft = []
    for part, kind in enumerate(kinds):
        third = TEXT[4 * part : 4 * part + 4]
        change = {
            "replaced": [third[0], STRANGE, *third[2:]],
            "missing": [third[0], *third[2:]],
            "too many": [*third[:2], STRANGE, *third[2:]],
            "right": third,
        }
        draft += change[kind]
    found = repaired([draft])
    assert texts_of(found) == [TEXT]
    assert int(found.steps[0, 0]) <= 3


def test_rows_do_not_touch_each_other() -> None:
    drafts = [TEXT[:5] + TEXT[6:], TEXT, [STRANGE, *TEXT[1:]]]
    together = texts_of(repaired(drafts))
    assert together == [text for draft in drafts for text in texts_of(repaired([draft]))]


def test_as_many_passes_as_tokens_whatever_the_neighbours_take() -> None:
    backwards = TEXT[::-1]  # of which something is left after passes that are not enough
    drafts = [backwards[:6], backwards, TEXT]
    together = repaired(drafts, how=OWN)
    assert together.steps.ravel().tolist() == [7, 13, 1]
    alone = [text for draft in drafts for text in texts_of(repaired([draft], how=OWN))]
    assert texts_of(together) == alone


def test_a_draft_that_is_too_short_cuts_no_text_off_at_once() -> None:
    short = TEXT[:5]  # with its end, six tokens: six passes
    found = repaired([short], how=OWN)
    assert (texts_of(found), found.steps.tolist()) == ([TEXT[:11]], [[6]])
    told = repaired([short])
    assert (texts_of(told), told.steps.tolist()) == ([TEXT[:9]], [[4]])


def test_what_is_written_says_in_which_pass() -> None:
    found = repaired([[STRANGE if token == 6 else token for token in TEXT]])
    assert texts_of(found) == [TEXT]
    # The one that is put right stands at once; those behind it are verified once more.
    first = TEXT.index(6) + 1
    assert np.asarray(found.fixed_at)[0, 0, :WORDS].tolist() == [1] * first + [2] * (WORDS - first)
    assert found.steps.tolist() == [[2]]


def test_rows_that_nobody_wants_cost_no_pass() -> None:
    found = repaired([[STRANGE]], wanted=False)
    assert texts_of(found) == [[]]
    assert found.steps.tolist() == [[0]]


@pytest.mark.parametrize("text", [[], TEXT * 2])
def test_drafts_of_any_length_end(text: list[int]) -> None:
    found = repaired([text[: N - 1]])
    assert np.asarray(found.tokens)[0, 0, -1] == END


def test_heard_pieces_become_texts_of_a_length() -> None:
    tokens, sure = jnp.array([[3, 4, -1, -1], [3, 4, 5, 6]]), jnp.full((2, 4), 0.5)
    draft = Draft.of(tokens, sure, 4, END)
    assert draft.tokens.tolist() == [[3, 4, END, END], [3, 4, 5, 6]]
    assert draft.sure.tolist() == [[0.5, 0.5, 1, 1], [0.5] * 4]


def test_a_pass_at_least() -> None:
    with pytest.raises(WhisfusionError, match="at least 1"):
        Repair(0)


@given(st.lists(st.sampled_from([*TEXT, STRANGE, END]), max_size=N - 1), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_exactly_any_draft_becomes_the_readers_text(draft: list[int], sure: float) -> None:
    found = repaired([draft, TEXT], sure, how=EXACT)
    assert texts_of(found) == [TEXT, TEXT]
    assert found.steps[0, 0] <= WORDS + 1
    # Each pass writes the five that it reads.
    assert found.steps[1, 0] == -(-(WORDS + 1) // EXACT.size)
    assert np.asarray(found.confidence)[:, 0, : WORDS + 1].min() > 0.99


def test_a_word_put_in_or_left_out_costs_a_pass_not_the_rest() -> None:
    drafts = [
        [*TEXT[:2], STRANGE, *TEXT[2:]],
        [*TEXT[:2], *TEXT[3:]],
        [TEXT[0], STRANGE, *TEXT[2:]],
    ]
    found = repaired(drafts, how=EXACT)
    assert texts_of(found) == [TEXT] * len(drafts)
    assert np.asarray(found.steps).max() <= -(-(WORDS + 1) // EXACT.size) + 1
