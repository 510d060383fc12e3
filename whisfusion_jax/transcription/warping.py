"""Dynamic time warping: which frames belong to which token, on the device."""

import jax
import jax.numpy as jnp

_SMOOTHED = 7
"""Frames of which the median is taken."""
_MEDIAN_OF_SEVEN = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3),
    (3, 4),
)  # fmt: skip
"""Exchanges that bring the median of seven to the middle (Devillard, 1998): a sort would cost more
than the decoder's pass."""
_NEXT_TOKEN, _NEXT_FRAME = 1, 2
"""Moves along a way; 0 is both at once."""


def smoothed(looks: jax.Array) -> jax.Array:
    """The median of each frame and its neighbours: [..., frames] to the same."""
    half, frames = _SMOOTHED // 2, looks.shape[-1]
    padded = jnp.pad(looks, [(0, 0)] * (looks.ndim - 1) + [(half, half)], mode="reflect")
    near = [padded[..., shift : shift + frames] for shift in range(_SMOOTHED)]
    for low, high in _MEDIAN_OF_SEVEN:
        near[low], near[high] = (
            jnp.minimum(near[low], near[high]),
            jnp.maximum(near[low], near[high]),
        )
    return near[half]


def first_frames(looks: jax.Array, length: jax.Array, frames: jax.Array) -> jax.Array:
    """The first frame of each token on the way that sees most.

    The costs of all ways are found diagonal by diagonal, whose cells don't depend on each other.

    Args:
        looks: [n, frames]: how much of each token is in each frame.
        length: the last token's number.
        frames: that count.
    """
    n, width = looks.shape
    at = jnp.arange(n)
    frame = jnp.arange(n + width - 1)[:, None] - at
    there = (frame >= 0) & (frame < width)
    costs = jnp.where(there, -looks[at, frame.clip(0, width - 1)], jnp.inf)
    nowhere = jnp.full(n, jnp.inf)

    def step(
        before: tuple[jax.Array, jax.Array], cost: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        last, one_before = before
        ways = jnp.stack([_one_on(one_before), _one_on(last), last])
        move = ways.argmin(axis=0).astype(jnp.int8)
        return (cost + ways.min(axis=0), last), move

    # Before the first cell stands the way of length nothing.
    first = nowhere.at[0].set(costs[0, 0])
    _, moves = jax.lax.scan(step, (first, nowhere), costs[1:])

    def back(
        state: tuple[jax.Array, jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        token, frame, begins = state
        begins = begins.at[token].set(frame)
        move = moves[jnp.maximum(token + frame - 1, 0), token]
        here = token + frame > 0
        return (
            token - ((move != _NEXT_FRAME) & here),
            frame - ((move != _NEXT_TOKEN) & here),
            begins,
        ), None

    start = length, frames - 1, jnp.zeros(n, jnp.int32)
    (_, _, begins), _ = jax.lax.scan(back, start, length=n + width)
    return begins


def _one_on(costs: jax.Array) -> jax.Array:
    return jnp.pad(costs[:-1], (1, 0), constant_values=jnp.inf)
