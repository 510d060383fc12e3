"""Iterative Self-Correction Training: the next round begins with what the model itself wrote.

A round asks for what is masked. Its likeliest tokens are put where they were asked for, no gradient
passes through them, the least sure are masked again, and the next round asks for these, and for
what is visible and wrong (MDM-ASR, arXiv 2602.18952; that the likeliest are put in, and the least
sure masked, is this project's choice).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from whisfusion_jax.diffusion.corruption import Masked


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Canvases:
    """What stands before a round, nothing masked."""

    tokens: jax.Array
    """[rows, n] int32."""
    sure: jax.Array
    """[rows, n] float32: each token's probability when it was written; 1 where it is the text's."""

    def written(
        self, index: jax.Array, used: jax.Array, tokens: jax.Array, sure: jax.Array, groups: int = 1
    ) -> "Canvases":
        """With what a round wrote.

        Args:
            index: [m] int32 into the flattened [rows, n], equally many in each group's rows.
            used: [m] bool.
            tokens: [m] int32.
            sure: [m] float32.
        """
        shape, part = self.tokens.shape, self.tokens.size // groups
        at = jnp.where(used, index % part, part).reshape(groups, -1)

        def put(before: jax.Array, new: jax.Array) -> jax.Array:
            rows, fresh = before.reshape(groups, part), new.reshape(groups, -1)
            placed = jax.vmap(lambda row, at, each: row.at[at].set(each, mode="drop"))
            return jax.lax.stop_gradient(placed(rows, at, fresh.astype(before.dtype)))

        tokens, sure = put(self.tokens, tokens), put(self.sure, sure)
        return Canvases(tokens.reshape(shape), sure.reshape(shape))


def doubted(key: jax.Array, before: Canvases) -> Masked:
    """Mask what is less sure than a share that each row draws, from 0 to 1; perhaps nothing."""
    least = jax.random.uniform(key, (before.sure.shape[0], 1))
    mask = before.sure < least
    return Masked(mask, mask.mean(-1))
