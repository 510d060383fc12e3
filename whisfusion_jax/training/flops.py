"""Arithmetic of a training step, by counting: multiplications and additions of matrix products."""

from dataclasses import dataclass

from whisfusion_jax.config import DenoiserConfig, WhisperConfig


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of a step, of all devices."""

    encoder: float
    """Forward alone."""
    denoiser: float
    """Forward and backward."""
    again: float = 0.0
    """Computed a second time, for less memory; no part of what the model needs."""

    @property
    def model(self) -> float:
        """What the model needs: the numerator of MFU (PaLM, arXiv 2204.02311)."""
        return self.encoder + self.denoiser


def step_flops(
    model: WhisperConfig,
    sizes: DenoiserConfig,
    rows: int,
    frames: int,
    positions: int,
    canvases: int,
    canvas: int,
    asked: float,
    encodes: bool,
    recomputes: bool,
) -> StepFlops:
    """Count a step.

    Args:
        rows: audios in the batch.
        frames: of the encoder's bucket.
        positions: that the decoder attends to: frames and padding memory.
        canvas: positions of a canvas and its prompt.
        asked: positions of all canvases that the output layer is computed at.
        encodes: whether the step runs the encoder.
        recomputes: whether layers are computed again for the gradient.
    """
    tokens = rows * canvases * canvas
    width, layers = sizes.width, sizes.layers
    stored = width * (sizes.shared_heads or sizes.heads) // sizes.heads
    projections = 2 * (4 + 2) * width**2  # self-attention's four, cross-attention's two
    inside = (2 * 2 * 4 * width**2) if sizes.warm else (2 * 3 * width * sizes.hidden)
    attended = 4 * width * (canvas + positions)
    block = tokens * layers * (projections + inside + attended)
    # Frozen states need no gradient: their keys and values have two products, not three.
    keys = rows * positions * layers * 2 * 2 * sizes.audio_width * stored
    output = 2 * asked * width * sizes.vocabulary
    # What is frozen has no gradient of its own weights.
    backward = 1 if sizes.warm else 2
    denoiser = (1 + backward) * (block + output) + (backward) * keys
    encoder = rows * encoder_flops(model, frames, positions) if encodes else 0.0
    return StepFlops(encoder, denoiser, block + keys if recomputes else 0.0)


def encoder_flops(model: WhisperConfig, frames: int, positions: int) -> float:
    """Of one window, forward."""
    width = model.width
    convolutions = 2 * 3 * width * (2 * frames * model.mel_bins + frames * width)
    block = 2 * 12 * frames * width**2 + 4 * frames * positions * width
    return convolutions + model.encoder_layers * block
