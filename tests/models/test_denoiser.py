"""The denoiser against Whisper's decoder, and what both kinds promise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import TINY, with_random_adapters
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.models.denoiser import Denoiser, warm_denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper

SCRATCH = DenoiserConfig(
    vocabulary=100, width=32, heads=4, layers=2, audio_width=24, hidden=80, warm=False,
    shared_heads=2,
)  # fmt: skip
WARM = DenoiserConfig.of_decoder(TINY, rank=4)


def audio(batch: int, width: int, seed: int = 0) -> AudioStates:
    states = jax.random.normal(jax.random.key(seed), (batch, 11, width))
    return AudioStates(states, jnp.linspace(0, 1, 11))


@pytest.fixture(scope="module")
def warm(tiny_whisper: Whisper) -> Denoiser:
    return warm_denoiser(tiny_whisper.decoder, WARM, jnp.arange(TINY.vocabulary))


@pytest.fixture(scope="module")
def trained(warm: Denoiser) -> Denoiser:
    return with_random_adapters(warm)


@pytest.fixture(scope="module")
def scratch() -> Denoiser:
    return Denoiser(SCRATCH, rngs=nnx.Rngs(0))


def hidden(model: Denoiser, canvas: np.ndarray, width: int, audios: int = 1) -> jax.Array:
    prompt = jnp.zeros((audios, 2), jnp.int32) + 3
    cross = model.cross_cache(audio(audios, width))
    return jax.jit(lambda m, p, c, x: m(p, c, x))(model, prompt, jnp.asarray(canvas), cross)


def test_what_is_known_up_to_the_first_mask_is_read_as_whisper_reads_it(
    trained: Denoiser, tiny_whisper: Whisper
) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, (3, 9))
    decoder = tiny_whisper.decoder
    whole = jnp.concatenate([jnp.full((3, 2), 3), tokens], axis=1)
    cross = decoder.cross_cache(audio(3, TINY.width))
    expected, _ = decoder(whole, decoder.empty_cache(3, 11), 0, cross)
    found = hidden(trained, tokens[:, None], TINY.width, audios=3)
    np.testing.assert_allclose(found[:, 0], expected[:, 1:-1], atol=2e-5)
    # position 6 is masked, and named by position 5
    holed = np.where(np.arange(9) > 5, trained.mask_token, tokens)
    found = hidden(trained, holed[:, None], TINY.width, audios=3)
    np.testing.assert_allclose(found[:, 0, :7], expected[:, 1:8], atol=2e-5)
    assert (np.abs(found[:, 0, 7] - expected[:, 8]) > 1e-3).any()


def test_training_can_mend_a_texts_first_token(warm: Denoiser, trained: Denoiser) -> None:
    masks = np.full((1, 1, 9), warm.mask_token)
    before, after = (hidden(model, masks, TINY.width)[0, 0, 0] for model in (warm, trained))
    assert (np.abs(after - before) > 1e-3).any()


def test_a_warm_canvas_of_another_length_says_the_same(trained: Denoiser) -> None:
    canvas = np.full((1, 1, 12), trained.mask_token)
    canvas[..., [0, 1, 4]] = 7, 8, 9
    whole = hidden(trained, canvas, TINY.width)
    np.testing.assert_allclose(
        hidden(trained, canvas[..., :8], TINY.width), whole[:, :, :8], atol=2e-5
    )


@pytest.mark.parametrize("kind", ["trained", "scratch"])
def test_canvases_of_an_audio_do_not_touch_each_other(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model, width = request.getfixturevalue(kind), TINY.width if kind == "trained" else 24
    canvases = np.random.default_rng(1).integers(0, 101, (1, 3, 8))
    canvases = np.where(canvases == 100, model.mask_token, canvases)
    together = hidden(model, canvases, width)
    for i in range(3):
        alone = hidden(model, canvases[:, i : i + 1], width)
        np.testing.assert_allclose(together[:, i], alone[:, 0], atol=2e-5)


@pytest.mark.parametrize("kind", ["trained", "scratch"])
def test_masks_read_tokens_on_both_sides(kind: str, request: pytest.FixtureRequest) -> None:
    model, width = request.getfixturevalue(kind), TINY.width if kind == "trained" else 24
    canvas = np.arange(8).reshape(1, 1, 8)
    canvas[..., 2:6] = model.mask_token
    before = hidden(model, canvas, width)
    for changed in (0, 7):
        other = canvas.copy()
        other[..., changed] = 20
        moved = np.abs(hidden(model, other, width) - before).max(-1)[0, 0]
        assert (moved[2:6] > 0).all(), changed


def test_shared_heads_are_heads_with_equal_keys(scratch: Denoiser) -> None:
    plain = Denoiser(dataclasses.replace(SCRATCH, shared_heads=None), rngs=nnx.Rngs(1))
    state = nnx.state(nnx.clone(scratch))
    for block in state["blocks"].values():
        for name in ("key", "value"):
            kernel = block["cross_attention"][name]["kernel"]
            columns = jnp.split(kernel[...], 2, axis=1)  # each read by two heads
            kernel.set_value(jnp.concatenate([x for x in columns for _ in range(2)], axis=1))
    nnx.update(plain, state)
    canvas = np.arange(8).reshape(1, 1, 8)
    np.testing.assert_allclose(hidden(plain, canvas, 24), hidden(scratch, canvas, 24), atol=2e-5)
