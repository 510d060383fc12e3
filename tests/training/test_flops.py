"""Counted arithmetic, against what the compiler counts of the same programs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from whisfusion_jax.bundle import abstract_denoiser, abstract_whisper
from whisfusion_jax.config import WHISPER_SIZES, DenoiserConfig
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.training.flops import cross_flops, denoiser_flops, encoder_flops

SIZES = DenoiserConfig(
    vocabulary=512, width=128, heads=4, layers=2, audio_width=256, hidden=320, warm=False,
    shared_heads=2,
)  # fmt: skip


def counted(function: object, *args: object) -> float:
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_the_encoders_arithmetic() -> None:
    model = dataclasses.replace(WHISPER_SIZES["tiny.en"], encoder_layers=2)
    # Few enough for attention without a loop, of which XLA would count one round.
    mel = jax.ShapeDtypeStruct((1, 480, 80), jnp.float32)
    found = counted(lambda encoder, mel: encoder(mel).states, abstract_whisper(model).encoder, mel)
    # Softmax, norms and GELU come on top.
    assert encoder_flops(model, 240) == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("warm", [True, False])
def test_the_denoisers_arithmetic(warm: bool) -> None:
    sizes = dataclasses.replace(SIZES, warm=warm, shared_heads=None if warm else 2)

    def read(denoiser: object, states: jax.Array) -> jax.Array:
        prompt, canvas = np.zeros((2, 2), np.int32), np.zeros((2, 3, 30), np.int32)
        return denoiser(prompt, canvas, AudioStates(states, None))

    states = jax.ShapeDtypeStruct((2, 300, 256), jnp.float32)
    found = counted(read, nnx.eval_shape(lambda: abstract_denoiser(sizes)), states)
    expected = 2 * (denoiser_flops(sizes, 300, 3, 32) + cross_flops(sizes, 300))
    assert expected == pytest.approx(found, rel=0.15)
