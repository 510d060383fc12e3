"""Whisper's beam search, as one compiled loop."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.autoregressive import Decoded, read_prompt
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Texts:
    """Some token rows for each utterance, best first or not."""

    tokens: jax.Array
    """[batch, rows, max_tokens] int32."""
    logprobs: jax.Array
    """[batch, rows, max_tokens] float32, each token's."""
    score: jax.Array
    """[batch, rows] float32; minus infinity where there is no text."""

    def pick(self, rows: jax.Array) -> "_Texts":
        """Rows by index, [batch, n]."""
        at = rows[..., None]
        return _Texts(
            jnp.take_along_axis(self.tokens, at, axis=1),
            jnp.take_along_axis(self.logprobs, at, axis=1),
            jnp.take_along_axis(self.score, rows, axis=1),
        )

    def append(self, step: jax.Array, token: jax.Array, logprob: jax.Array) -> "_Texts":
        """Write a token a row, [batch, rows], at `step`; its log-probability joins the score."""
        write = partial(jax.lax.dynamic_update_index_in_dim, index=step, axis=2)
        return _Texts(
            write(self.tokens, token), write(self.logprobs, logprob), self.score + logprob
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    beams: _Texts
    """Unfinished, by the sum of their log-probabilities."""
    cache: Cache
    finished: _Texts
    """By the sum of their log-probabilities over the number of text tokens."""
    done: jax.Array
    """[batch]: as many texts have finished as there are beams."""


@partial(jax.jit, static_argnames=("vocabulary", "beams", "max_tokens"))
def decode_by_beam(
    decoder: Decoder,
    cross: CrossCache,
    prompt: jax.Array,
    vocabulary: Vocabulary,
    beams: int = 5,
    max_tokens: int = 224,
    wanted: jax.Array | None = None,
) -> Decoded:
    """Keep the `beams` likeliest texts at each step, as OpenAI's decoder does with patience 1.

    An utterance ends when `beams` texts have ended (or at `max_tokens`, when the unfinished join
    them). The winner has the highest sum of log-probabilities, end token included, over the number
    of its text tokens.

    Args:
        cross: of the batch's audio.
        prompt: [batch, p] int32, as `read_prompt` takes it.
        wanted: [batch] bool: False for rows that fill the batch up; None for all.
    """
    batch, offset = prompt.shape
    start, logits = read_prompt(decoder, cross, prompt, vocabulary, offset + max_tokens)
    spread = partial(jnp.repeat, repeats=beams, axis=0)
    cross = jax.tree.map(spread, cross)

    def texts(score: jax.Array) -> _Texts:
        tokens = jnp.full((*score.shape, max_tokens), vocabulary.end, jnp.int32)
        return _Texts(tokens, jnp.zeros(tokens.shape), score)

    def advance(state: _State, logits: jax.Array, cache: Cache) -> _State:
        """Choose from `logits`, [batch, beams, vocabulary]."""
        batch, logprobs = len(logits), jax.nn.log_softmax(logits)
        # One more than the beams can end at once: then as many go on.
        token_logprob, token = jax.lax.top_k(logprobs, beams + 1)
        total = (state.beams.score[..., None] + token_logprob).reshape(batch, -1)
        _, order = jax.lax.top_k(total, 2 * beams)
        parent = order // (beams + 1)
        grown = state.beams.pick(parent).append(
            state.step,
            jnp.take_along_axis(token.reshape(batch, -1), order, axis=1),
            jnp.take_along_axis(token_logprob.reshape(batch, -1), order, axis=1),
        )
        ended = grown.tokens[:, :, state.step] == vocabulary.end
        going = jnp.argsort(ended, axis=1, stable=True)[:, :beams]
        # A text ends only if it stands before the last beam that goes on.
        rank = jnp.arange(2 * beams)
        last = jnp.take_along_axis(jnp.broadcast_to(rank, ended.shape), going[:, -1:], axis=1)
        ends = ended & (rank < last)
        mean = jnp.where(ends, grown.score / jnp.maximum(state.step, 1), -jnp.inf)
        finished = _keep(state.finished, _Texts(grown.tokens, grown.logprobs, mean), state.done)
        rows = (jnp.arange(batch)[:, None] * beams + jnp.take_along_axis(parent, going, 1)).ravel()
        return _State(
            step=state.step + 1,
            beams=grown.pick(going),
            cache=jax.tree.map(lambda x: x[rows], cache),
            finished=finished,
            done=state.done | jnp.isfinite(finished.score).all(axis=1),
        )

    def step(cross: CrossCache, state: _State) -> _State:
        newest = jax.lax.dynamic_index_in_dim(state.beams.tokens, state.step - 1, 2)
        hidden, cache = decoder(newest.reshape(-1, 1), state.cache, offset + state.step - 1, cross)
        logits = vocabulary.allowed(decoder.logits(hidden[:, 0]), first=False)
        return advance(state, logits.reshape(-1, beams, logits.shape[-1]), cache)

    def live(state: _State) -> jax.Array:
        return ~state.done & (state.step < max_tokens)

    # All beams are one at first: only the first counts.
    only_first = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
    empty = _State(
        step=jnp.int32(0),
        beams=texts(jnp.broadcast_to(only_first, (batch, beams))),
        cache=jax.tree.map(spread, start.cache),
        finished=texts(jnp.full((batch, beams), -jnp.inf)),
        done=jnp.zeros(batch, bool) if wanted is None else ~wanted,
    )
    first = advance(empty, jnp.repeat(logits[:, None], beams, axis=1), empty.cache)
    last = while_any(live, step, cross, first)

    cut = _Texts(last.beams.tokens, last.beams.logprobs, last.beams.score / max_tokens)
    texts_left = _keep(last.finished, cut, last.done)
    best = texts_left.pick(texts_left.score.argmax(axis=1)[:, None])
    return Decoded(
        best.tokens[:, 0], best.logprobs[:, 0], start.language, start.no_speech, last.step - 1
    )


def _keep(finished: _Texts, new: _Texts, done: jax.Array) -> _Texts:
    """Fill the places left among the finished, best of the new ones first; none once done."""
    new = _Texts(new.tokens, new.logprobs, jnp.where(done[:, None], -jnp.inf, new.score))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), finished, new)
    places = finished.score.shape[1]
    # Those that finished earlier keep their places, whatever their score.
    taken = jnp.isfinite(finished.score)
    order = jnp.argsort(
        jnp.concatenate([jnp.where(taken, -jnp.inf, jnp.inf), -new.score], axis=1), axis=1
    )
    return both.pick(order[:, :places])
