"""Byte pairs merged on the device: pieces of words to Whisper's tokens.

Whisper's vocabulary is numbered in the order in which byte-pair encoding (Sennrich and others,
2016) found its tokens: each behind the first 256 is two earlier ones. So its first few hundred are
the pieces that every text can be spelled in, and merging these again leads back to its tokens.
"""

from dataclasses import dataclass, field
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.text.tokenizer import WhisperTokenizer

_WORD = 13
"""Pieces around a pair, as many on either side, among which it must come first: a long word's."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Merges:
    """Which two tokens make which."""

    pairs: jax.Array
    """[merges] uint32, ascending: the left token times `tokens`, and the right one."""
    merged: jax.Array
    """[merges] int32."""
    tokens: int = field(metadata={"static": True})
    """Text tokens that there are."""

    @classmethod
    def of(cls, tokenizer: WhisperTokenizer) -> Self:
        """A vocabulary's; of one that isn't of bytes none, as its heads spell in its tokens."""
        if not tokenizer.of_bytes:
            return cls(jnp.full(1, 2**32 - 1, jnp.uint32), jnp.zeros(1, jnp.int32), tokenizer.end)
        left, right, merged = tokenizer.merges.T.astype(np.uint32)
        # One that no token reaches stands for none.
        pairs = np.append(left * tokenizer.end + right, np.uint32(2**32 - 1))
        order = np.argsort(pairs)
        merged = np.append(merged, 0)[order].astype(np.int32)
        return cls(jnp.asarray(pairs[order]), jnp.asarray(merged), tokenizer.end)

    def __call__(self, pieces: jax.Array, sure: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Merge each row's neighbours as long as any make a token, the earliest found first.

        As the tokenizer does, which merges one pair of a word at a time: here all pairs that none
        near by comes before do at once.

        Args:
            pieces: [rows, n] int32: tokens, negative behind a row's text.
            sure: [rows, n] float32: a merged token's is the least of its pieces'.

        Returns:
            both again, -1 and 1 behind.
        """
        none = np.int32(self.tokens)
        place = jnp.arange(pieces.shape[1])

        def rank(pieces: jax.Array) -> jax.Array:
            """What each and the next make, which tells when it was found; `none` for nothing."""
            following = jnp.pad(pieces[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
            pair = pieces.astype(jnp.uint32) * self.tokens + following.astype(jnp.uint32)
            at = jnp.searchsorted(self.pairs, pair)
            there = (self.pairs[at] == pair) & (pieces >= 0) & (following >= 0)
            return jnp.where(there, self.merged[at], none)

        def merge(
            state: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            pieces, sure, made = state
            before = jnp.pad(made[:, :-1], ((0, 0), (1, 0)), constant_values=self.tokens)
            least = jax.lax.reduce_window(made, none, jax.lax.min, (1, _WORD), (1, 1), "SAME")
            first = (made == least) & (made < before) & (made < none)
            second = jnp.pad(first[:, :-1], ((0, 0), (1, 0)))
            following = jnp.pad(sure[:, 1:], ((0, 0), (0, 1)), constant_values=1.0)
            sure = jnp.where(first, jnp.minimum(sure, following), sure)
            pieces = jnp.where(first, made, pieces)
            to = jnp.where(second, len(place), jnp.cumsum(~second, axis=1) - 1)

            def closed_up(row: jax.Array, to: jax.Array, fill: float) -> jax.Array:
                return jnp.full_like(row, fill).at[to].set(row, mode="drop")

            pieces = jax.vmap(closed_up, (0, 0, None))(pieces, to, -1)
            sure = jax.vmap(closed_up, (0, 0, None))(sure, to, 1.0)
            return pieces, sure, rank(pieces)

        begun = pieces, sure, rank(pieces)
        pieces, sure, _ = jax.lax.while_loop(lambda state: (state[2] < none).any(), merge, begun)
        return pieces, sure
