"""Exact decoding: a denoiser drafts, Whisper's decoder verifies, the text is Whisper's greedy one.

Each round a drafter proposes likely tokens for the next positions, all at once, and one pass of the
decoder over a small tree of them says what Whisper writes after each. What agrees stands, and so
does Whisper's own token at the first disagreement. So every round brings a token at least, and the
draft, however bad, changes nothing but the number of rounds. (Draft and verify as in speculative
decoding, arXiv 2211.17192, where a smaller model drafts token by token.)
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.autoregressive import Decoded, Vocabulary, likeliest, read_prompt
from whisfusion_jax.decoding.branches import Branches, chain
from whisfusion_jax.decoding.canvas import CANVASES
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.denoiser import Denoiser, on_decoder
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.text.shortlist import Shortlist

BRANCHES = chain(8)
"""What of a draft is verified."""

COMMONEST = 8192
"""Of Whisper's tokens, so many may be drafted: numbered in the order of their frequency, they are
most of any text, and the whole vocabulary would cost as much as several layers."""


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
    commonest: int = COMMONEST,
    passes: int = 1,
) -> DenoiserDrafter:
    """A denoiser's drafter.

    Args:
        decoder: for whom it drafts; a warm denoiser must have come from it.
        suppress: Whisper's tokens that are never written.
        commonest: of Whisper's tokens, so many may be drafted, and the end token.
        passes: of the denoiser for each draft.
    """
    tokens, vocabulary = shortlist.tokens, decoder.embedding.shape[0]
    end = tokens[shortlist.end]
    (rows,) = np.nonzero(
        ((tokens < min(commonest, end)) & ~np.isin(tokens, suppress)) | (tokens == end)
    )
    own, has = shortlist.lookup(np.arange(vocabulary))
    own = np.where(has, own, denoiser.mask_token)
    table = denoiser.embedding[rows]
    if denoiser.warm:
        denoiser, own = on_decoder(denoiser, decoder), np.arange(vocabulary)
    return DenoiserDrafter(
        denoiser, jnp.asarray(own, jnp.int32), jnp.asarray(tokens[rows]), table, passes=passes
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Verified:
    """What exact decoding writes."""

    decoded: Decoded
    """Whisper's greedy text, with Whisper's probabilities."""
    round_of: jax.Array
    """[batch, max_tokens] int32: the round that brought each token; 0 is the prompt's pass."""
    rounds: jax.Array
    """[batch] int32: until the text was there."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    known: Known
    logprobs: jax.Array
    """[batch, positions]."""
    round_of: jax.Array
    """[batch, positions]."""
    rounds: jax.Array
    done: jax.Array
    """[batch]: the text has ended."""


@partial(jax.jit, static_argnames=("vocabulary", "branches", "max_tokens"))
def decode_exactly(
    decoder: Decoder,
    drafter: Drafter,
    audio: AudioStates,
    prompt: jax.Array,
    vocabulary: Vocabulary,
    branches: Branches = BRANCHES,
    max_tokens: int = 224,
) -> Verified:
    """Write what `decode_greedily` writes, several tokens a round.

    Args:
        audio: [batch, positions, width].
        prompt: [batch, p] int32, as `read_prompt` takes it; p + max_tokens + the draft's size at
            most the decoder's positions.
        branches: what of a draft is verified.
        max_tokens: as `decode_greedily` takes it.
    """
    batch, offset = prompt.shape
    length = offset + max_tokens + len(branches.ranks)
    cross = decoder.cross_cache(audio)
    prepared = drafter.prepare(audio, cross)
    start = read_prompt(decoder, cross, prompt, vocabulary, length)
    index = jnp.arange(branches.size + 1)
    parent = branches.lines[np.arange(1, len(branches.lines)), branches.depth[1:] - 1]

    def round(state: _State) -> _State:
        known = state.known
        drafted, cache = drafter(prepared, known, branches.size, branches.ways)
        root = jnp.take_along_axis(known.tokens, known.count[:, None] - 1, axis=1)
        nodes = jnp.concatenate([root, drafted[:, *branches.drafted]], axis=1)
        hidden, cache = decoder(nodes, cache, known.count - 1, cross, branches.depth, branches.sees)
        logits = vocabulary.allowed(decoder.logits(hidden), first=False)
        own, logprob = likeliest(logits)
        # A node agrees if Whisper writes its token after the node before it, and so on to the root.
        agrees = jnp.pad(nodes[:, 1:] == own[:, parent], ((0, 0), (1, 0)), constant_values=True)
        agrees = (agrees[:, None] | ~branches.sees).all(-1)
        deepest = jnp.where(agrees, branches.depth, -1).argmax(-1)
        line = jnp.asarray(branches.lines)[deepest]
        token, logprob = (jnp.take_along_axis(each, line, axis=1) for each in (own, logprob))
        ends = token == vocabulary.end
        taken = (
            (index <= jnp.asarray(branches.depth)[deepest][:, None])
            & (jnp.cumsum(ends, axis=1) - ends == 0)
            & (known.count[:, None] + index < offset + max_tokens)
            & ~state.done[:, None]
        )
        count = known.count + taken.sum(1)
        rounds = state.rounds + ~state.done

        def written(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.vmap(_put)(old, new, known.count, taken)

        return _State(
            known=Known(
                written(known.tokens, token),
                count,
                _straightened(cache, known.count - 1, line),
                offset,
            ),
            logprobs=written(state.logprobs, logprob),
            round_of=written(state.round_of, jnp.broadcast_to(rounds[:, None], token.shape)),
            rounds=rounds,
            done=state.done | (taken & ends).any(1) | (count == offset + max_tokens),
        )

    token, logprob = likeliest(start.logits)
    tokens = jnp.full((batch, length), vocabulary.end, jnp.int32)
    first = _State(
        known=Known(
            tokens.at[:, :offset].set(start.prompt).at[:, offset].set(token),
            jnp.full(batch, offset + 1),
            start.cache,
            offset,
        ),
        logprobs=jnp.zeros((batch, length)).at[:, offset].set(logprob),
        round_of=jnp.zeros((batch, length), jnp.int32),
        rounds=jnp.zeros(batch, jnp.int32),
        done=token == vocabulary.end,
    )
    last = jax.lax.while_loop(lambda state: ~state.done.all(), round, first)
    text = partial(
        jax.lax.slice_in_dim, start_index=offset, limit_index=offset + max_tokens, axis=1
    )
    decoded = Decoded(
        text(last.known.tokens), text(last.logprobs), start.language, start.no_speech,
        last.rounds.max(),
    )  # fmt: skip
    return Verified(decoded, text(last.round_of), last.rounds)


def _put(row: jax.Array, new: jax.Array, at: jax.Array, taken: jax.Array) -> jax.Array:
    """Write the taken ones of some new entries, [n], into a row, from a position on."""
    old = jax.lax.dynamic_slice_in_dim(row, at, len(new))
    return jax.lax.dynamic_update_slice_in_dim(row, jnp.where(taken, new, old), at, axis=0)


def _straightened(cache: Cache, position: jax.Array, line: jax.Array) -> Cache:
    """A tree's cached nodes, of which those on one line are to follow each other.

    Args:
        position: [batch]: the root's.
        line: [batch, n]: which nodes.
    """

    def one(row: jax.Array, position: jax.Array, line: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, row[:, position + line], position, axis=1)

    each = jax.vmap(one)
    return jax.tree.map(lambda rows: each(rows, position, line), cache)
