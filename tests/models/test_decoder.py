from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from tests.support import TINY
from whisfusion_jax.models.whisper import Whisper


def test_equals_transformers(tiny_whisper: Whisper, recorded: Mapping[str, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    mel = random.normal(size=(2, 3000, TINY.mel_bins)).astype(np.float32)
    tokens = jnp.asarray(random.integers(TINY.vocabulary, size=(2, 20)))
    decoder = tiny_whisper.decoder
    cross = decoder.cross_cache(tiny_whisper.encoder(jnp.asarray(mel)))
    hidden, _ = decoder(tokens, decoder.empty_cache(2, 20), 0, cross)
    np.testing.assert_allclose(decoder.logits(hidden), recorded["logits"], atol=1e-4, rtol=0)


def test_cached_steps_equal_one_pass(tiny_whisper: Whisper) -> None:
    """Any split of the tokens gives the same states, and room left in the cache doesn't matter."""
    random = np.random.default_rng(2)
    decoder = tiny_whisper.decoder
    mel = jnp.asarray(random.normal(size=(2, 3000, TINY.mel_bins)), jnp.float32)
    cross = decoder.cross_cache(tiny_whisper.encoder(mel))
    tokens = jnp.asarray(random.integers(TINY.vocabulary, size=(2, 12)))
    whole, _ = decoder(tokens, decoder.empty_cache(2, 12), 0, cross)

    cache, pieces, position = decoder.empty_cache(2, 20), [], 0
    for size in (1, 4, 1, 6):
        hidden, cache = decoder(tokens[:, position : position + size], cache, position, cross)
        pieces.append(hidden)
        position += size
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)
