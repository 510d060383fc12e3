"""The way through, against one found cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from whisfusion_jax.transcription.warping import first_frames, smoothed


def found_cell_by_cell(looks: np.ndarray) -> list[int]:
    """The first frame of each row on the best way."""
    n, width = looks.shape
    costs, moves = np.full((n, width), np.inf), np.zeros((n, width), int)
    for i in range(n):
        for j in range(width):
            ways = [
                costs[i - 1, j - 1] if i and j else np.inf,
                costs[i - 1, j] if i else np.inf,
                costs[i, j - 1] if j else np.inf,
            ]
            moves[i, j] = int(np.argmin(ways))
            costs[i, j] = (0 if i == j == 0 else min(ways)) - looks[i, j]
    i, j, first = n - 1, width - 1, [0] * n
    while True:
        first[i] = j
        if i == j == 0:
            return first
        i, j = i - (moves[i, j] != 2), j - (moves[i, j] != 1)


way = jax.jit(first_frames)


@pytest.mark.parametrize("seed", range(20))
def test_the_way_is_the_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    looks = random.normal(size=(9, 40)).astype(np.float32)
    last, frames = int(random.integers(0, 9)), int(random.integers(1, 41))
    found = way(jnp.asarray(looks), last, frames)
    assert found[: last + 1].tolist() == found_cell_by_cell(looks[: last + 1, :frames])


def test_smoothed_is_the_median_of_seven() -> None:
    looks = np.random.default_rng(0).normal(size=(3, 5, 30)).astype(np.float32)
    padded = np.pad(looks, ((0, 0), (0, 0), (3, 3)), mode="reflect")
    near = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=-1)
    np.testing.assert_allclose(smoothed(jnp.asarray(looks)), np.median(near, axis=-1))
