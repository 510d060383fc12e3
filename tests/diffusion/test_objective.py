"""The loss against plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from whisfusion_jax.diffusion.corruption import Masked
from whisfusion_jax.diffusion.objective import (
    Objective,
    Targets,
    choose,
    loss,
    sample_vocabulary,
)
from whisfusion_jax.errors import WhisfusionError

BATCH, CANVASES, N, VOCABULARY = 2, 3, 8, 11
LENGTHS = np.array([5, 3])


@pytest.fixture(scope="module")
def masked() -> Masked:
    draw = np.random.default_rng(0)
    mask = draw.random((BATCH * CANVASES, N)) < 0.6
    return Masked(jnp.asarray(mask), jnp.linspace(0.1, 1, BATCH * CANVASES))


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(BATCH * CANVASES * N, VOCABULARY))


TOKENS = np.random.default_rng(2).integers(0, VOCABULARY, (BATCH, N))


def measured(masked: Masked, logits: np.ndarray, objective: Objective, **targets: object) -> float:
    lengths = jnp.repeat(LENGTHS, CANVASES)
    chosen = choose(jax.random.key(0), masked, lengths, objective, N)
    targets = Targets(jnp.asarray(TOKENS), jnp.asarray(LENGTHS), **targets)
    found, report = loss(jnp.asarray(logits)[chosen.index], chosen, targets, CANVASES, objective)
    assert 0 <= report["accuracy"] <= 1
    return float(found)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_loss_is_the_weighted_mean_over_masked_text(
    masked: Masked, logits: np.ndarray, inverse: bool
) -> None:
    logprobs = np.asarray(jax.nn.log_softmax(logits)).reshape(BATCH * CANVASES, N, VOCABULARY)
    total = weights = 0.0
    for row in range(BATCH * CANVASES):
        for i in range(LENGTHS[row // CANVASES]):
            if masked.mask[row, i]:
                weight = 1 / float(masked.ratio[row]) if inverse else 1.0
                total -= weight * logprobs[row, i, TOKENS[row // CANVASES, i]]
                weights += weight
    objective = Objective(inverse_ratio=inverse, padding=0.0, buffer=1.0)
    assert measured(masked, logits, objective) == pytest.approx(total / weights, rel=1e-5)


def test_padding_counts_when_its_weight_is_one(masked: Masked, logits: np.ndarray) -> None:
    logprobs = np.asarray(jax.nn.log_softmax(logits)).reshape(BATCH, CANVASES, N, VOCABULARY)
    mask = np.asarray(masked.mask).reshape(BATCH, CANVASES, N)
    truth = np.broadcast_to(TOKENS[:, None, :, None], (BATCH, CANVASES, N, 1))
    each = -np.take_along_axis(logprobs, truth, axis=-1)[..., 0]
    objective = Objective(padding=1.0, buffer=1.0)
    assert measured(masked, logits, objective) == pytest.approx(each[mask].mean(), rel=1e-5)


def test_a_certain_teacher_is_the_text_itself(masked: Masked, logits: np.ndarray) -> None:
    alone = measured(masked, logits, Objective(buffer=1.0))
    taught = measured(
        masked, logits, Objective(buffer=1.0, teacher=0.7),
        teacher_tokens=jnp.asarray(TOKENS)[..., None], teacher_probs=jnp.ones((BATCH, N, 1)),
    )  # fmt: skip
    assert taught == pytest.approx(alone, rel=1e-5)


def test_what_does_not_fit_the_buffer_is_left_out(masked: Masked) -> None:
    lengths = jnp.repeat(LENGTHS, CANVASES)
    chosen = choose(jax.random.key(0), masked, lengths, Objective(padding=1.0, buffer=0.1), N)
    assert chosen.index.shape == (5,)
    assert (chosen.weight == 1).all()


def test_a_sample_has_the_texts_tokens_and_keeps_the_softmax_sum_in_the_mean() -> None:
    draw = np.random.default_rng(3)
    scores = jnp.asarray(draw.normal(size=200), jnp.float32)
    targets = Targets(
        draw.integers(0, 200, (2, 4)), np.array([4, 3]),
        draw.integers(0, 200, (2, 4, 3)), np.full((2, 4, 3), 0.2),
    )  # fmt: skip

    @jax.jit
    def draw_one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        sample = sample_vocabulary(key, targets, 200, 60)
        total = jnp.exp(scores[sample.tokens] + sample.bias).sum()
        return total, sample.tokens, sample.targets.tokens, sample.targets.teacher_tokens

    drawn = [draw_one(jax.random.key(seed)) for seed in range(200)]
    for _, tokens, own, taught in drawn[:5]:
        np.testing.assert_array_equal(tokens[own], targets.tokens)
        np.testing.assert_array_equal(tokens[taught], targets.teacher_tokens)
        assert len(set(tokens.tolist())) == 60
    mean = np.mean([float(total) for total, *_ in drawn])
    assert mean == pytest.approx(float(jnp.exp(scores).sum()), rel=0.02)


def test_a_sample_too_small_for_a_batch_is_refused() -> None:
    targets = Targets(np.zeros((2, 4), int), np.array([4, 3]))
    with pytest.raises(WhisfusionError, match="a sample of 8 tokens"):
        sample_vocabulary(jax.random.key(0), targets, 200, 8)
