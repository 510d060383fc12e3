"""Canary's decoder against what transformers computed."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from tests.models.test_fastconformer import SMALL
from tests.support import filled
from whisfusion_jax.config import CanaryConfig
from whisfusion_jax.conversion.canary import TRANSFORMERS, sinusoids
from whisfusion_jax.conversion.rules import Kind, Rule
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import AudioStates

CANARY = CanaryConfig(
    encoder=SMALL, vocabulary=40, width=32, heads=2, hidden=48, decoder_layers=2, text_positions=24
)


def with_weights(config: CanaryConfig, tensors: Mapping[str, np.ndarray]) -> Decoder:
    """A decoder of the tensors that transformers' has, by its names, which lack the positions."""
    model = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    rules = (*TRANSFORMERS, Rule("decoder.positions", "positions", Kind.TABLE))
    positions = sinusoids(config.text_positions, config.width)
    stored = {name.removeprefix("model."): array for name, array in tensors.items()}
    named = {**stored, "positions": positions}
    return filled(model, "decoder", rules, config.decoder_layers, named)


@jax.jit
def logits(decoder: Decoder, tokens: jax.Array, audio: AudioStates) -> jax.Array:
    cache = decoder.empty_cache(*tokens.shape)
    return decoder.logits(decoder(tokens, cache, 0, decoder.cross_cache(audio))[0])


def audio_of(states: np.ndarray, there: np.ndarray) -> AudioStates:
    """States, of which some are padding."""
    return AudioStates(states, np.where(there, 0.0, -np.inf)[:, None, None].astype(np.float32))


def test_logits_equal_transformers(recorded: Mapping[str, np.ndarray]) -> None:
    own = {name.partition("."): array for name, array in recorded.items()}
    tensors = {name: array for (part, _, name), array in own.items() if part == "canary"}
    audio = audio_of(recorded["canary_heard"], recorded["canary_there"])
    found = logits(with_weights(CANARY, tensors), recorded["canary_tokens"], audio)
    np.testing.assert_allclose(found, recorded["canary_logits"], atol=1e-4, rtol=0)


def test_configs_are_read_as_they_are_written() -> None:
    import dataclasses

    assert CanaryConfig.from_dict(dataclasses.asdict(CANARY)) == CANARY
