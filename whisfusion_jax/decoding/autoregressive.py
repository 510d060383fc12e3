"""What autoregressive decoders share: the prompt, the tokens that may be written, the result."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.config import TokenRules
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Decoded:
    """What autoregressive decoding writes; every array on the device until the end."""

    tokens: jax.Array
    """[batch, max_tokens] int32: the text, then end tokens."""
    logprobs: jax.Array
    """[batch, max_tokens] float32: of each token and of the first end token; 0 after it."""
    language: jax.Array
    """[batch] int32: the prompt's language token, given or detected; -1 for English-only models."""
    no_speech: jax.Array
    """[batch] float32: probability of the no-speech token right after the start token."""
    steps: jax.Array
    """int32: passes of the decoder after the prompt."""


@dataclass(frozen=True)
class Vocabulary:
    """What decoding must know of the tokens; static, so part of a compiled program's key."""

    rules: TokenRules
    end: int
    no_speech: int
    languages: tuple[int, ...] = ()
    """Of the language tokens; none for English-only models."""

    def allowed(self, logits: jax.Array, first: bool) -> jax.Array:
        """Logits [..., vocabulary] with the suppressed tokens at minus infinity."""
        banned = np.zeros(logits.shape[-1], bool)
        banned[list(self.rules.suppress)] = True
        if first:
            banned[list(self.rules.suppress_first)] = True
        return jnp.where(banned, -jnp.inf, logits)


@dataclass(frozen=True)
class Start:
    """Where decoding stands once the prompt is read."""

    logits: jax.Array
    """[batch, vocabulary] of the text's first token, suppressed ones at minus infinity."""
    cache: Cache
    prompt: jax.Array
    """[batch, p] int32, with the language that was heard."""
    language: jax.Array
    no_speech: jax.Array


def read_prompt(
    decoder: Decoder, cross: CrossCache, prompt: jax.Array, vocabulary: Vocabulary, length: int
) -> Start:
    """Read the prompt into a fresh cache, and name the language where the prompt doesn't.

    Args:
        prompt: [batch, p] int32: the start token, then (multilingual models) the language token
            or -1, then the task tokens.
        length: of the cache, prompt included.
    """
    batch = prompt.shape[0]
    cache = decoder.empty_cache(batch, length)
    hidden, cache = decoder(prompt[:, :1], cache, 0, cross)
    logits = decoder.logits(hidden[:, 0])
    no_speech = jax.nn.softmax(logits)[:, vocabulary.no_speech]
    language = jnp.full(batch, -1, jnp.int32)
    if vocabulary.languages:
        languages = jnp.array(vocabulary.languages, jnp.int32)
        heard = languages[logits[:, languages].argmax(-1)]
        language = jnp.where(prompt[:, 1] < 0, heard, prompt[:, 1])
        prompt = prompt.at[:, 1].set(language)
    hidden, cache = decoder(prompt[:, 1:], cache, 1, cross)
    first = vocabulary.allowed(decoder.logits(hidden[:, -1]), first=True)
    return Start(first, cache, prompt, language, no_speech)


def likeliest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., vocabulary] to the arg-max [...] int32 and its log-probability [...]."""
    token = logits.argmax(-1).astype(jnp.int32)
    return token, logits.max(-1) - jax.nn.logsumexp(logits, axis=-1)
