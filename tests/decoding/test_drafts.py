"""Where in a draft a text has come to."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.decoding import drafts
from whisfusion_jax.decoding.drafts import UNKNOWN
from whisfusion_jax.transcription.winner import edit_distance

END, LENGTH = 9, 8
TEXTS = st.lists(st.integers(1, 4), max_size=6)


def drafted(*texts: list[int]) -> jnp.ndarray:
    rows = [[*text, END, *[UNKNOWN] * LENGTH][:LENGTH] for text in texts]
    return jnp.array(rows, jnp.int32)


def followed(draft: jnp.ndarray, *texts: list[int]) -> jnp.ndarray:
    count = jnp.array([len(text) for text in texts])
    tokens = jnp.array([[*text, *[0] * 6][:6] for text in texts])
    return drafts.follow(drafts.start(draft), draft, tokens, count)


def test_a_draft_ends_and_leaves_out_what_is_not_sure() -> None:
    tokens = jnp.array([[3, 4, 5, -1], [-1] * 4, [1, 2, 1, 2]])
    sure = jnp.array([[True, False, True, False], [True] * 4, [True] * 4])
    short, long = (drafts.draft_of(tokens, sure, length, END) for length in (3, 6))
    np.testing.assert_array_equal(short, [[3, UNKNOWN, 5], [END, UNKNOWN, UNKNOWN], [1, 2, 1]])
    np.testing.assert_array_equal(long[0], [3, UNKNOWN, 5, END, UNKNOWN, UNKNOWN])
    np.testing.assert_array_equal(long[2], [1, 2, 1, 2, END, UNKNOWN])


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_distances_are_edit_distances(draft: list[int], text: list[int]) -> None:
    found = followed(drafted(draft), text)[0]
    whole = [*draft, END]
    for reached in range(min(len(whole), LENGTH) + 1):
        assert found[reached] == edit_distance(text, whole[:reached])


def test_the_draft_goes_on_behind_what_was_written_otherwise() -> None:
    draft = [1, 2, 3, 4, 1, 2]
    texts = [[], [1, 2], [1, 4], [1, 2, 4, 1], [1, 3, 2, 3]]  # as drafted, other, less, more
    goes_on = [[1, 2, 3], [3, 4, 1], [3, 4, 1], [2, END, UNKNOWN], [4, 1, 2]]
    rows = drafted(*[draft] * len(texts))
    found = drafts.rest(followed(rows, *texts), rows, 3)
    np.testing.assert_array_equal(found, goes_on)


def test_each_row_follows_its_own_count() -> None:
    rows = drafted([1, 2, 3], [1, 2, 3])
    found = drafts.follow(drafts.start(rows), rows, jnp.array([[1, 2]] * 2), jnp.array([2, 0]))
    np.testing.assert_array_equal(drafts.rest(found, rows, 1), [[3], [1]])
