"""The training loss: read whole and by stretches, in rounds, and from drafts."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import TINY, with_random_adapters
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig
from whisfusion_jax.data.batches import Batch
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.diffusion.corruption import Ahead, Mixed, Uniform, high_mask
from whisfusion_jax.diffusion.objective import Objective, Targets
from whisfusion_jax.models.denoiser import (
    LEARNED,
    LEARNED_BOTH_WAYS,
    Denoiser,
    warm_denoiser,
)
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.parallel.mesh import one_device
from whisfusion_jax.parallel.sharding import made_sharded
from whisfusion_jax.training.loss import LossSettings, denoising_loss
from whisfusion_jax.training.setup import make_optimizer
from whisfusion_jax.training.step import Frozen, StepSettings, make_step, split, start

N = 12
SETTINGS = LossSettings(
    corruption=Mixed((Ahead(), high_mask())),
    objective=Objective(padding=1.0, buffer=1.0),
    canvases=4,
)


def _batch() -> Batch:
    draw = np.random.default_rng(0)
    targets = Targets(draw.integers(0, TINY.vocabulary, (3, N)), np.array([5, 12, 1]))
    return Batch(np.zeros(0), np.full((3, 2), 7), targets, np.zeros(3, np.int32))


def _audio() -> AudioStates:
    return AudioStates(jax.random.normal(jax.random.key(1), (3, 9, TINY.width)), None)


def _both_ways(whisper: Whisper) -> Denoiser:
    config = DenoiserConfig.of_decoder(TINY, rank=0, both_ways=True)
    return warm_denoiser(whisper.decoder, config, jnp.arange(TINY.vocabulary))


@pytest.mark.parametrize("sample", [None, TINY.vocabulary])
def test_stretches_over_the_whole_canvas_give_the_same_loss_and_gradient(
    tiny_whisper: Whisper, sample: int | None
) -> None:
    config = DenoiserConfig.of_decoder(TINY, rank=4)
    denoiser = with_random_adapters(
        warm_denoiser(tiny_whisper.decoder, config, jnp.arange(TINY.vocabulary))
    )
    parts, learned = split(denoiser, LEARNED)
    batch, audio = _batch(), _audio()

    def loss(learned: object, settings: LossSettings) -> jax.Array:
        model = parts.merge(learned)
        return denoising_loss(model, audio, batch, jax.random.key(2), settings)[0]

    measure = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    expected, slope = measure(learned, SETTINGS)
    settings = dataclasses.replace(SETTINGS, stretch=N + 1, sample=sample)
    found, found_slope = measure(learned, settings)
    assert found == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slope, found_slope)


@pytest.mark.parametrize("sample", [None, TINY.vocabulary])
def test_a_round_costs_what_the_first_one_of_a_draft_does(
    tiny_whisper: Whisper, sample: int | None
) -> None:
    """The second round of a text masked whole is the first of the draft that the first wrote."""
    denoiser, batch, audio = _both_ways(tiny_whisper), _batch(), _audio()
    settings = dataclasses.replace(
        SETTINGS,
        corruption=Uniform(1.0),
        objective=Objective(padding=1.0, buffer=1.0, seen=1.0),
        canvases=1,
        sample=sample,
    )
    key = jax.random.key(3)
    rounds = dataclasses.replace(settings, rounds=2)
    both, report = denoising_loss(denoiser, audio, batch, key, rounds)
    first, _ = denoising_loss(denoiser, audio, batch, key, settings)
    canvas = jnp.full((3, 1, N), denoiser.mask_token)
    logits = denoiser.logits(denoiser(jnp.asarray(batch.prompt), canvas, audio))[:, 0]
    sure = jax.nn.softmax(logits).max(-1)
    # Nothing is masked again where all are sure; so what was written is asked for as it stands.
    written = dataclasses.replace(batch, draft=Draft(logits.argmax(-1), jnp.ones_like(sure)))
    drafted = dataclasses.replace(settings, drafted=1)
    shown, _ = denoising_loss(denoiser, audio, written, key, drafted)
    assert 0 <= report["again/accuracy"] <= 1
    hidden, _ = denoising_loss(
        denoiser,
        audio,
        dataclasses.replace(batch, draft=Draft(logits.argmax(-1), jnp.zeros_like(sure))),
        key,
        drafted,
    )
    assert hidden == pytest.approx(float(first), rel=1e-4)
    second = 2 * float(both) - float(first)
    # Random weights are sure of nothing, so nearly all is masked again.
    assert second == pytest.approx(float(first), rel=0.05)
    assert shown != pytest.approx(float(first), rel=1e-3)


def test_every_weight_but_the_embeddings_learns_where_all_see_all(tiny_whisper: Whisper) -> None:
    parts, learned = split(_both_ways(tiny_whisper), LEARNED_BOTH_WAYS)
    batch, audio = _batch(), _audio()
    settings = dataclasses.replace(SETTINGS, rounds=2)

    def cost(learned: object) -> jax.Array:
        return denoising_loss(parts.merge(learned), audio, batch, jax.random.key(0), settings)[0]

    slopes = dict(nnx.to_flat_state(jax.grad(cost)(learned)))
    assert ("embedding",) not in slopes
    still = [path for path, slope in slopes.items() if not jnp.any(slope[...])]
    assert not still


def test_a_step_compiles_once(tiny_whisper: Whisper) -> None:
    """What a step returns is laid out and typed as what it took."""
    parts, learned = split(_both_ways(tiny_whisper), LEARNED_BOTH_WAYS)
    optimizer = make_optimizer(OptimizerConfig(warmup=2, ahead=10.0), 4)
    memoryless = Frozen(parts.frozen, memory=None)
    mesh = one_device()
    state = made_sharded(partial(start, optimizer=optimizer), mesh, learned)
    audio = np.zeros((3, 9, TINY.width), np.float16)
    batch = dataclasses.replace(_batch(), audio=audio, lengths=np.full(3, 9 * 8 * 160))
    step = make_step(parts.graph, memoryless, optimizer, StepSettings(SETTINGS, 0.9), mesh)
    compiled: list[str] = []

    def note(event: str, _: float, **told: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    state, _ = step(state, batch)
    first = len(compiled)
    assert first > 0
    for _ in range(2):
        state, _ = step(state, batch)
    assert len(compiled) == first
    assert int(state.step) == 3
