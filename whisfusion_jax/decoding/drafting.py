"""Drafts for exact decoding: likely tokens for the positions behind a known text."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.autoregressive import likeliest
from whisfusion_jax.decoding.canvas import CANVASES
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.denoiser import Denoiser, on_decoder
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.text.shortlist import Shortlist


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Known:
    """How far the texts are."""

    tokens: jax.Array
    """[batch, positions] int32 of Whisper's: prompt and text; anything behind."""
    count: jax.Array
    """[batch] int32: positions that are verified."""
    cache: Cache
    """The decoder's, right for all of them but the last."""
    prompt: int = field(metadata={"static": True})
    """Positions of the prompt."""


class Drafter(Protocol):
    """Proposes what comes next. A pytree: its weights are a program's arguments."""

    def prepare(self, audio: AudioStates, cross: CrossCache) -> Any:
        """What it needs of an utterance, computed once; `cross` is the decoder's."""

    def __call__(
        self, prepared: Any, known: Known, size: int, ways: int
    ) -> tuple[jax.Array, Cache]:
        """Draft the next positions.

        Returns:
            [batch, size, ways] int32 of Whisper's tokens, the likeliest first; and the cache, right
            where it was right.
        """


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenoiserDrafter:
    """Drafts by a denoiser.

    A warm one has the decoder's weights and reads its caches; one from scratch passes over the
    whole canvas.
    """

    denoiser: Denoiser
    own: jax.Array
    """[Whisper's vocabulary] int32: the denoiser's token of each of Whisper's, or its mask."""
    names: jax.Array
    """[n] int32: Whisper's tokens that may be drafted."""
    table: jax.Array
    """[n, width]: their embeddings."""
    length: int = field(default=CANVASES[-1], metadata={"static": True})
    """Of the canvas of one from scratch."""
    passes: int = field(default=1, metadata={"static": True})
    """Of the denoiser for each draft."""
    keep: float = field(default=0.5, metadata={"static": True})
    """Tokens this probable are known to the next pass."""

    def prepare(self, audio: AudioStates, cross: CrossCache) -> CrossCache:
        return cross if self.denoiser.warm else self.denoiser.cross_cache(audio)

    def __call__(
        self, prepared: CrossCache, known: Known, size: int, ways: int
    ) -> tuple[jax.Array, Cache]:
        mask, cache = self.denoiser.mask_token, known.cache
        behind = jnp.arange(known.tokens.shape[1]) >= known.count[:, None]
        canvas = jnp.where(behind, mask, self.own[known.tokens])
        at = known.count[:, None] + jnp.arange(size)
        put = jax.vmap(lambda row, i, new: row.at[i].set(new))
        logits, cache = self._score(prepared, canvas, known, size, cache)
        for _ in range(1, self.passes):
            token, logprob = likeliest(logits)
            sure = logprob > jnp.log(self.keep)
            canvas = put(canvas, at, jnp.where(sure, self.own[self.names[token]], mask))
            again, cache = self._score(prepared, canvas, known, size, cache)
            logits = jnp.where(sure[..., None], logits, again)
        _, drafted = jax.lax.top_k(logits, ways)
        return self.names[drafted], cache

    def _score(
        self, cross: CrossCache, canvas: jax.Array, known: Known, size: int, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Logits [batch, size, n] of what follows the known positions."""
        hidden, cache = self._read(cross, canvas, known, size, cache)
        return jnp.matmul(hidden, self.table.T, preferred_element_type=jnp.float32), cache

    def _read(
        self, cross: CrossCache, canvas: jax.Array, known: Known, size: int, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Hidden states [batch, size, width] of what follows the known positions."""
        first, start = known.prompt, known.count[:, None] - 1
        if self.denoiser.warm:
            hidden, cache = self.denoiser.stretch(
                canvas[:, None], start, size, first, canvas.shape[1], cross, cache
            )
            return hidden[:, 0], cache
        text = canvas[:, None, first : first + self.length]
        hidden = self.denoiser(canvas[:, :first], text, cross)[:, 0]
        at = jnp.minimum(start + 1 - first + jnp.arange(size), hidden.shape[1] - 1)
        return jnp.take_along_axis(hidden, at[..., None], axis=1), cache


def drafter_of(
    denoiser: Denoiser,
    shortlist: Shortlist,
    decoder: Decoder,
    suppress: tuple[int, ...],
    passes: int = 1,
) -> DenoiserDrafter:
    """A denoiser's drafter.

    Args:
        decoder: for whom it drafts; a warm denoiser must have come from it.
        suppress: Whisper's tokens that are never written.
        passes: of the denoiser for each draft.

    Raises:
        WhisfusionError: the denoiser was made for a Whisper of another size.
    """
    reads = denoiser.blocks[0].cross_attention.key.kernel.shape[0]
    layers = len(denoiser.blocks), len(decoder.blocks)
    if reads != decoder.positions.shape[1] or (denoiser.warm and layers[0] != layers[1]):
        raise WhisfusionError("the denoiser that is to draft was made for another Whisper")
    tokens, vocabulary = shortlist.tokens, decoder.embedding.shape[0]
    written = ~np.isin(tokens, suppress)
    written[list(shortlist.special)] = False
    names = tokens[written]
    if denoiser.warm:
        denoiser, own = on_decoder(denoiser, decoder), jnp.arange(vocabulary)
    else:
        at, known = shortlist.lookup(np.arange(vocabulary))
        own = jnp.asarray(np.where(known, at, denoiser.mask_token))
    table = denoiser.embedding[own[names]]
    return DenoiserDrafter(denoiser, own, jnp.asarray(names), table, passes=passes)
