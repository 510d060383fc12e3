"""Exact decoding: a denoiser drafts, Whisper's decoder verifies, the text is Whisper's greedy one.

Each round a drafter proposes likely tokens for the next positions, all at once, and one pass of the
decoder over a small tree of them says what Whisper writes after each. What agrees stands, and so
does Whisper's own token at the first disagreement. So every round brings a token at least, and the
draft, however bad, changes nothing but the number of rounds. (Draft and verify as in speculative
decoding, arXiv 2211.17192, where a smaller model drafts token by token.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.autoregressive import Decoded, Vocabulary, likeliest, read_prompt
from whisfusion_jax.decoding.branches import TREE, Branches
from whisfusion_jax.decoding.drafting import Drafter, Known
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.encoder import AudioStates


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
    branches: Branches = TREE,
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

    def round(rows: tuple[CrossCache, Any], state: _State) -> _State:
        (cross, prepared), known = rows, state.known
        drafted, cache = drafter(prepared, known, branches.size, branches.ways)
        root = jnp.take_along_axis(known.tokens, known.count[:, None] - 1, axis=1)
        nodes = jnp.concatenate([root, drafted[:, *branches.drafted]], axis=1)
        hidden, cache = decoder(nodes, cache, known.count - 1, cross, branches.depth, branches.sees)
        logits = vocabulary.allowed(decoder.logits(hidden), first=False)
        own, logprob = likeliest(logits)
        line, agreed = _agreeing_line(nodes, own, branches)
        token, logprob = (jnp.take_along_axis(each, line, axis=1) for each in (own, logprob))
        ends = token == vocabulary.end
        taken = (
            (index <= agreed[:, None])
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
    last = while_any(lambda state: ~state.done, round, (cross, prepared), first)
    text = partial(
        jax.lax.slice_in_dim, start_index=offset, limit_index=offset + max_tokens, axis=1
    )
    decoded = Decoded(
        text(last.known.tokens), text(last.logprobs), start.language, start.no_speech,
        last.rounds.max(),
    )  # fmt: skip
    return Verified(decoded, text(last.round_of), last.rounds)


def _agreeing_line(
    nodes: jax.Array, own: jax.Array, branches: Branches
) -> tuple[jax.Array, jax.Array]:
    """The line of a tree on which Whisper goes furthest.

    Args:
        nodes: [batch, 1 + nodes]: tokens, the root's first.
        own: the same: what Whisper writes after each.

    Returns:
        its nodes, [batch, 1 + size], the root first, and how many behind the root Whisper agrees
        to, [batch].
    """
    parent = branches.lines[np.arange(1, len(branches.lines)), branches.depth[1:] - 1]
    agrees = jnp.pad(nodes[:, 1:] == own[:, parent], ((0, 0), (1, 0)), constant_values=True)
    # And so do all on the way there.
    agrees = (agrees[:, None] | ~branches.sees).all(-1)
    depth = jnp.where(agrees, branches.depth, -1)
    return jnp.asarray(branches.lines)[depth.argmax(-1)], depth.max(-1)


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
