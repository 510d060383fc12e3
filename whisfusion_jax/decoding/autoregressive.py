"""What autoregressive decoders share: the prompt, the tokens that may be written, the result."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.vocabulary import Vocabulary
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
    no_speech = vocabulary.share_of_no_speech(logits)
    prompt = vocabulary.with_language(prompt, logits)
    language = prompt[:, 1] if vocabulary.languages else jnp.full(batch, -1, jnp.int32)
    hidden, cache = decoder(prompt[:, 1:], cache, 1, cross)
    first = vocabulary.allowed(decoder.logits(hidden[:, -1]), first=True)
    return Start(first, cache, prompt, language, no_speech)
