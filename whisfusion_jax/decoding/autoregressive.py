"""What decoders share that begin as Whisper's: how the prompt is read, and the result."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax

from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.denoiser import Denoiser


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Start:
    """What the start token says."""

    cache: Cache
    prompt: jax.Array
    """[batch, p] int32, with the language that was heard."""
    language: jax.Array
    """As in Decoded, like the next."""
    no_speech: jax.Array


Reader = Decoder | Denoiser
"""Who reads as Whisper's decoder does: itself, or a denoiser of the warm kind."""
Read = Callable[[jax.Array, Cache, jax.Array | int, CrossCache], tuple[jax.Array, Cache]]
"""How tokens are read, as `Decoder.__call__` does."""


def read_start(
    read: Read,
    scores: Callable[[jax.Array], jax.Array],
    empty: Cache,
    cross: CrossCache,
    prompt: jax.Array,
    vocabulary: Vocabulary,
) -> Start:
    """Read up to the start token into an empty cache; name the language where prompts don't.

    Args:
        scores: hidden states to logits.
        prompt: [batch, p] int32: an earlier text, perhaps, the start token, then (multilingual
            models) the language token or -1, then the task tokens.
    """
    hidden, cache = read(prompt[:, : vocabulary.before + 1], empty, 0, cross)
    # Where nothing is asked of it the compiler leaves this product out.
    logits = scores(hidden[:, -1])
    prompt = vocabulary.with_language(prompt, logits)
    language = vocabulary.language_of(prompt)
    return Start(cache, prompt, language, vocabulary.share_of_no_speech(logits))


def read_but_last(read: Read, cross: CrossCache, said: Start, vocabulary: Vocabulary) -> Start:
    """Read on behind the start token: all of the prompt but its last, with which texts begin."""
    begin = vocabulary.before + 1
    if begin >= said.prompt.shape[1] - 1:
        return said
    _, cache = read(said.prompt[:, begin:-1], said.cache, begin, cross)
    return replace(said, cache=cache)


def read_prompt(
    reader: Reader, cross: CrossCache, prompt: jax.Array, vocabulary: Vocabulary, length: int
) -> tuple[Start, jax.Array]:
    """Read the prompt into a fresh cache.

    Args:
        prompt: as `read_start` takes it.
        length: of the cache, prompt included.

    Returns:
        the start, its cache with all of the prompt, and logits of the text's first token, [batch,
        vocabulary], suppressed ones at minus infinity.
    """
    empty = reader.empty_cache(len(prompt), length)
    begin = vocabulary.before + 1
    if vocabulary.languages:
        start = read_start(reader.read, reader.logits, empty, cross, prompt, vocabulary)
        hidden, cache = reader.read(start.prompt[:, begin:], start.cache, begin, cross)
    else:
        # No language to name first: one pass reads all.
        hidden, cache = reader.read(prompt, empty, 0, cross)
        no_speech = vocabulary.share_of_no_speech(reader.logits(hidden[:, begin - 1]))
        start = Start(empty, prompt, vocabulary.language_of(prompt), no_speech)
    first = vocabulary.allowed(reader.logits(hidden[:, -1]), first=True)
    return replace(start, cache=cache), first
