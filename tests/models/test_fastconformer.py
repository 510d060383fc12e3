"""FastConformer against what transformers' Parakeet encoder computed, and its own promises."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.support import filled
from whisfusion_jax.config import FastConformerConfig
from whisfusion_jax.conversion.fastconformer import transformers_rules
from whisfusion_jax.models.fastconformer import FastConformer

SMALL = FastConformerConfig(
    mel_bins=80, width=32, heads=4, layers=2, hidden=64, channels=8, bias=False
)


def with_weights(config: FastConformerConfig, tensors: Mapping[str, np.ndarray]) -> FastConformer:
    """An encoder of the tensors that transformers' has, by its names."""
    model = nnx.eval_shape(lambda: FastConformer(config, rngs=nnx.Rngs(0)))
    named = {f"encoder.{name}": array for name, array in tensors.items()}
    return filled(model, "encoder", transformers_rules(config), config.layers, named)


@jax.jit
def _encode(encoder: FastConformer, mel: jax.Array, lengths: jax.Array):
    audio = encoder(mel, lengths)
    return audio.states, audio.bias


def encode(
    encoder: FastConformer, mel: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States, and which of them are no padding: [batch, frames]."""
    states, bias = _encode(encoder, mel, lengths)
    return np.asarray(states), np.asarray(bias)[:, 0, 0] == 0


def test_states_equal_transformers(recorded: Mapping[str, np.ndarray]) -> None:
    own = {name.partition("."): array for name, array in recorded.items()}
    tensors = {name: array for (part, _, name), array in own.items() if part == "parakeet"}
    encoder = with_weights(SMALL, tensors)
    states, there = encode(encoder, recorded["parakeet_mel"], recorded["parakeet_lengths"])
    expected = recorded["parakeet_states"]
    np.testing.assert_allclose(states[there], expected[there], atol=1e-4, rtol=0)


def test_padding_and_neighbours_change_nothing() -> None:
    encoder = FastConformer(SMALL, rngs=nnx.Rngs(0))
    mel = np.random.default_rng(0).normal(size=(2, 160, 80)).astype(np.float32)
    lengths = np.array([97, 160])
    states, there = encode(encoder, mel, lengths)
    assert there.sum(1).tolist() == [13, 20]
    alone, _ = encode(encoder, mel[:1, :104], lengths[:1])
    np.testing.assert_allclose(states[0, :13], alone[0, :13], atol=1e-5)


def test_samples_are_heard_with_their_own_lengths() -> None:
    encoder = FastConformer(SMALL, rngs=nnx.Rngs(0))
    samples = np.random.default_rng(0).normal(size=(2, 32_000)).astype(np.float32)
    audio = jax.jit(FastConformer.hear)(encoder, samples, jnp.array([16_000, 32_000]))
    assert audio.states.shape == (2, 25, 32)
    assert (np.asarray(audio.bias)[:, 0, 0] == 0).sum(1).tolist() == [13, 25]
