"""Arithmetic of a training step, by counting: multiplications and additions of matrix products."""

import math
from dataclasses import dataclass

from whisfusion_jax.config import (
    CtcConfig,
    DenoiserConfig,
    FastConformerConfig,
    ModelConfig,
    PhaseConfig,
    TrainConfig,
    WhisperConfig,
)
from whisfusion_jax.data.batches import Batch


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of a step, of all devices."""

    encoder: float
    """Forward alone: it is frozen."""
    denoiser: float
    """Forward and backward."""
    again: float = 0.0
    """Computed a second time, for less memory; no part of what the model needs."""

    @property
    def model(self) -> float:
        """What the model needs: the numerator of MFU (PaLM, arXiv 2204.02311)."""
        return self.encoder + self.denoiser


def step_flops(
    config: TrainConfig,
    phase: PhaseConfig,
    model: ModelConfig,
    sizes: DenoiserConfig,
    batch: Batch,
) -> StepFlops:
    """Count a step on a batch, of which the shapes matter.

    The padding memory is left out, a head that drafts, and with `stretch` the pass over what stands
    before.
    """
    rows, canvas = batch.targets.tokens.shape
    encodes = batch.audio.ndim == 2
    frames = batch.frames(model)
    read = min(canvas, config.stretch or canvas)
    forward = denoiser_flops(sizes, frames, config.canvases, read + batch.prompt.shape[1])
    keys = cross_flops(sizes, frames)
    asked = math.ceil(phase.room * config.canvases * read)
    output = 2 * asked * sizes.width * (config.sample or sizes.vocabulary)
    # A product has two gradients: of what it multiplies, and of its weights if these learn. The
    # states are frozen and have none.
    backward = 1 if sizes.warm and not sizes.both_ways else 2
    denoiser = phase.rounds * (1 + backward) * (forward + output) + backward * keys
    again = rows * phase.rounds * (forward + keys) if config.scan else 0.0
    return StepFlops(
        rows * encoder_flops(model, frames) if encodes else 0.0, rows * denoiser, again
    )


def head_step_flops(sizes: CtcConfig, model: ModelConfig, batch: Batch) -> StepFlops:
    """Count a step of a CTC head on encoded audio."""
    moments = sizes.moments(batch.frames(model))
    width = sizes.width
    near = 2 * (2 + 1 + 8) * width**2
    whole = 2 * 12 * width**2 + 4 * moments * width
    outside = 2 * width * (sizes.stride * width + sizes.pieces)
    forward = moments * (sizes.layers * near + whole + outside)
    return StepFlops(0.0, 3 * batch.audio.shape[0] * forward)


def denoiser_flops(sizes: DenoiserConfig, frames: int, canvases: int, canvas: int) -> float:
    """Of one audio's canvases through all blocks, forward, without cross-attention's keys."""
    width = sizes.width
    projections = 2 * (4 + 2) * width**2  # self-attention has four, cross-attention two
    inside = 2 * (2 * 4 * width**2 if sizes.warm else 3 * width * sizes.hidden)
    attended = 4 * width * (canvas + frames)
    return canvases * canvas * sizes.layers * (projections + inside + attended)


def cross_flops(sizes: DenoiserConfig, frames: int) -> float:
    """Of one audio's keys and values in all blocks, forward."""
    stored = sizes.width * (sizes.shared_heads or sizes.heads) // sizes.heads
    return frames * sizes.layers * 2 * 2 * sizes.audio_width * stored


def encoder_flops(model: ModelConfig, frames: int) -> float:
    """Of one window, forward."""
    if not isinstance(model, WhisperConfig):
        return _conformer_flops(model.encoder, frames)
    width = model.width
    convolutions = 2 * 3 * width * (2 * frames * model.mel_bins + frames * width)
    block = 2 * 12 * frames * width**2 + 4 * frames**2 * width
    return convolutions + model.encoder_layers * block


def _conformer_flops(model: FastConformerConfig, frames: int) -> float:
    width, bins = model.width, model.mel_bins // 8
    # Of the three strided planes the first two have four and two times as many frames and bins.
    planes = 9 * (16 + 4 + 1) + model.channels * (4 + 1)
    joined = 2 * frames * bins * model.channels * (planes + width)
    # Attention has a fifth product, of distances; a convolution has three of the width, and taps.
    block = 2 * frames * width * (4 * model.hidden + 4 * width + 3 * width + model.taps)
    attended = 2 * frames * width * (2 * width + 2 * frames + 2 * frames)
    return joined + model.layers * (block + attended)
