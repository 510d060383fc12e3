"""Whisper's own left-to-right decoding, the likeliest token at each step, in a compiled loop."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.autoregressive import Decoded, Reader, read_prompt
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.vocabulary import Vocabulary, likeliest
from whisfusion_jax.models.decoder import Cache, CrossCache


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    token: jax.Array
    """[batch]: the newest, not yet read by the decoder."""
    done: jax.Array
    """[batch]: the end token is written."""
    cache: Cache
    tokens: jax.Array
    logprobs: jax.Array


@partial(jax.jit, static_argnames=("vocabulary", "max_tokens"))
def decode_greedily(
    reader: Reader,
    cross: CrossCache,
    prompt: jax.Array,
    vocabulary: Vocabulary,
    max_tokens: int = 224,
    wanted: jax.Array | None = None,
) -> Decoded:
    """Write the likeliest token at each step, until every row has ended.

    Rows don't touch each other, and a row that has ended writes end tokens only.

    Args:
        reader: Whisper's decoder, or a denoiser on its weights.
        cross: of the batch's audio.
        prompt: [batch, p] int32, as `read_prompt` takes it; p + max_tokens at most the decoder's
            positions.
        max_tokens: where rows without an end token stop; OpenAI's default is half of 448.
        wanted: [batch] bool: False for rows that fill the batch up; None for all.
    """
    batch, offset = prompt.shape
    start, logits = read_prompt(reader, cross, prompt, vocabulary, offset + max_tokens)

    def write(state: _State, token: jax.Array, logprob: jax.Array, cache: Cache) -> _State:
        token = jnp.where(state.done, vocabulary.end, token)
        logprob = jnp.where(state.done, 0, logprob)
        return _State(
            step=state.step + 1,
            token=token,
            done=state.done | (token == vocabulary.end),
            cache=cache,
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, token, state.step, 1),
            logprobs=jax.lax.dynamic_update_index_in_dim(state.logprobs, logprob, state.step, 1),
        )

    def step(cross: CrossCache, state: _State) -> _State:
        position = offset + state.step - 1
        hidden, cache = reader.read(state.token[:, None], state.cache, position, cross)
        logits = vocabulary.allowed(reader.logits(hidden[:, 0]), first=False)
        return write(state, *likeliest(logits), cache)

    def live(state: _State) -> jax.Array:
        return ~state.done & (state.step < max_tokens)

    empty = _State(
        step=jnp.int32(0),
        token=prompt[:, -1],
        done=jnp.zeros(batch, bool) if wanted is None else ~wanted,
        cache=start.cache,
        tokens=jnp.full((batch, max_tokens), vocabulary.end, jnp.int32),
        logprobs=jnp.zeros((batch, max_tokens)),
    )
    first = write(empty, *likeliest(logits), start.cache)
    last = while_any(live, step, cross, first)
    return Decoded(last.tokens, last.logprobs, start.language, start.no_speech, last.step - 1)
