"""Whisper's own left-to-right decoding, taking the likeliest token at each step: one compiled loop."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.config import TokenRules
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.encoder import AudioStates


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Decoded:
    """What autoregressive decoding writes; every array on the device until the end."""

    tokens: jax.Array
    """[batch, max_tokens] int32: the text, then end tokens."""
    logprobs: jax.Array
    """[batch, max_tokens] float32: of each token and of the first end token; 0 after it."""
    no_speech: jax.Array
    """[batch] float32: probability of the no-speech token at the start; 0 where there is none."""
    steps: jax.Array
    """int32: passes of the decoder after the prompt."""


@dataclass(frozen=True)
class Vocabulary:
    """What decoding must know of the tokens; static, so part of a compiled program's key."""

    rules: TokenRules
    end: int
    no_speech: int

    def allowed(self, logits: jax.Array, first: bool) -> jax.Array:
        """Logits [..., vocabulary] with the suppressed tokens at minus infinity."""
        banned = np.zeros(logits.shape[-1], bool)
        banned[list(self.rules.suppress)] = True
        if first:
            banned[list(self.rules.suppress_first)] = True
        return jnp.where(banned, -jnp.inf, logits)


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
    decoder: Decoder,
    audio: AudioStates,
    prompt: jax.Array,
    vocabulary: Vocabulary,
    max_tokens: int = 224,
) -> Decoded:
    """Write the likeliest token at each step, until every row has ended.

    Rows don't touch each other, and a row that has ended writes end tokens only.

    Args:
        audio: [batch, positions, width].
        prompt: [batch, p] int32, start and task tokens; p + max_tokens at most the decoder's
            positions.
        max_tokens: where rows without an end token stop; OpenAI's default is half of 448.
    """
    batch, offset = prompt.shape
    cross = decoder.cross_cache(audio)
    cache = decoder.empty_cache(batch, offset + max_tokens)
    hidden, cache = decoder(prompt, cache, 0, cross)
    no_speech, logits = read_prompt(decoder, hidden, vocabulary)
    token, logprob = _likeliest(logits)

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

    def step(state: _State) -> _State:
        position = offset + state.step - 1
        hidden, cache = decoder(state.token[:, None], state.cache, position, cross)
        logits = vocabulary.allowed(decoder.logits(hidden[:, 0]), first=False)
        return write(state, *_likeliest(logits), cache)

    def unfinished(state: _State) -> jax.Array:
        return (state.step < max_tokens) & ~state.done.all()

    empty = _State(
        step=jnp.int32(0),
        token=token,
        done=jnp.zeros(batch, bool),
        cache=cache,
        tokens=jnp.full((batch, max_tokens), vocabulary.end, jnp.int32),
        logprobs=jnp.zeros((batch, max_tokens)),
    )
    last = jax.lax.while_loop(unfinished, step, write(empty, token, logprob, cache))
    return Decoded(last.tokens, last.logprobs, no_speech, last.step - 1)


def read_prompt(
    decoder: Decoder, hidden: jax.Array, vocabulary: Vocabulary
) -> tuple[jax.Array, jax.Array]:
    """No-speech probability [batch], and the logits of the text's first token [batch, vocabulary].

    Args:
        hidden: [batch, p, width], the decoder's states over the prompt, whose first token is
            the start token.
    """
    logits = decoder.logits(hidden[:, jnp.array([0, -1])])
    no_speech = jax.nn.softmax(logits[:, 0])[:, vocabulary.no_speech]
    return no_speech, vocabulary.allowed(logits[:, 1], first=True)


def _likeliest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[batch, vocabulary] to the arg-max [batch] int32 and its log-probability [batch]."""
    token = logits.argmax(-1).astype(jnp.int32)
    return token, logits.max(-1) - jax.nn.logsumexp(logits, axis=-1)
