"""Blocks as one stack, against the same blocks one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import TINY
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, MemoryConfig
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.padding_memory import PaddingMemory, memory_shapes
from whisfusion_jax.models.stack import Kept, stacked, unstacked

SIZES = DenoiserConfig(
    vocabulary=50, width=32, heads=4, layers=3, audio_width=TINY.width, hidden=48, warm=False
)


def memory() -> PaddingMemory:
    config = MemoryConfig()
    shapes = memory_shapes(TINY, config).items()
    draws = {name: jax.random.normal(jax.random.key(0), shape) for name, shape in shapes}
    return PaddingMemory(**draws, config=config)


def test_the_encoder_says_the_same_with_its_memory(tiny_bundle: Bundle) -> None:
    mel = jax.random.normal(jax.random.key(1), (2, 600, TINY.mel_bins))
    expected = tiny_bundle.load_encoder()(mel, memory()).states
    found = stacked(tiny_bundle.load_encoder(), "nothing")(mel, memory()).states
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("keep", ["nothing", "products"])
@pytest.mark.parametrize("warm", [True, False])
def test_a_denoiser_learns_the_same(keep: Kept, warm: bool) -> None:
    def made() -> Denoiser:
        return Denoiser(
            DenoiserConfig.of_decoder(TINY, 50, rank=4) if warm else SIZES, rngs=nnx.Rngs(0)
        )

    prompt, canvas = jnp.zeros((2, 2), jnp.int32), jnp.full((2, 3, 6), 50).at[:, :, 2].set(7)
    audio = AudioStates(jax.random.normal(jax.random.key(2), (2, 9, TINY.width)), None)

    def loss(denoiser: Denoiser) -> jax.Array:
        hidden = denoiser(prompt, canvas, audio)
        return (hidden * jax.random.normal(jax.random.key(3), hidden.shape)).sum()

    gradient = jax.jit(jax.grad(loss))
    plain = gradient(made())
    scanned = unstacked(gradient(stacked(made(), keep)))
    expected, found = (dict(nnx.to_flat_state(nnx.state(each))) for each in (plain, scanned))
    assert found.keys() == expected.keys()
    for path in expected:
        np.testing.assert_allclose(found[path][...], expected[path][...], rtol=2e-4, atol=1e-4)
