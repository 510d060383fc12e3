"""The training loss, read whole and by stretches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, with_random_adapters
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.data.batches import Batch
from whisfusion_jax.diffusion.corruption import Ahead, Mixed, high_mask
from whisfusion_jax.diffusion.objective import Objective, Targets
from whisfusion_jax.models.denoiser import LEARNED, warm_denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.training.loss import LossSettings, denoising_loss
from whisfusion_jax.training.step import split

N = 12
SETTINGS = LossSettings(
    corruption=Mixed((Ahead(), high_mask())),
    objective=Objective(padding=1.0, buffer=1.0),
    canvases=4,
)


@pytest.mark.parametrize("sample", [None, TINY.vocabulary])
def test_stretches_over_the_whole_canvas_give_the_same_loss_and_gradient(
    tiny_whisper: Whisper, sample: int | None
) -> None:
    config = DenoiserConfig.of_whisper(TINY, rank=4)
    denoiser = with_random_adapters(
        warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))
    )
    parts, learned = split(denoiser, LEARNED)
    draw = np.random.default_rng(0)
    targets = Targets(draw.integers(0, TINY.vocabulary, (3, N)), np.array([5, 12, 1]))
    batch = Batch(np.zeros(0), np.full((3, 2), 7), targets)
    audio = AudioStates(jax.random.normal(jax.random.key(1), (3, 9, TINY.width)), None)

    def loss(learned: object, settings: LossSettings) -> jax.Array:
        model = parts.merge(learned)
        return denoising_loss(model, audio, batch, jax.random.key(2), settings)[0]

    measure = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    expected, slope = measure(learned, SETTINGS)
    settings = dataclasses.replace(SETTINGS, stretch=N + 1, sample=sample)
    found, found_slope = measure(learned, settings)
    assert found == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slope, found_slope)
