"""What is trained for the study: one budget, one data set, one frozen encoder, equal decoders."""

import dataclasses
from pathlib import Path

from whisfusion_jax.config import (
    WHISPER_SIZES,
    DenoiserConfig,
    OptimizerConfig,
    PhaseConfig,
    TrainConfig,
)

CANVASES = 4
"""Of each audio."""
_WHISPER = WHISPER_SIZES["tiny.en"]


def recipes(out: Path, data: tuple[Path, ...], steps: int) -> dict[str, TrainConfig]:
    """Training runs by name; each reads as many canvases, a round counting as one more of each.

    Args:
        out: where they work, a directory each; what the encoder says is shared.
        data: prepared sets.
        steps: of one round.
    """
    half = steps // 2
    uniform = TrainConfig(
        work=out / "uniform",
        states=out / "encoded",
        data=data,
        sentences=(),
        commonest=_WHISPER.vocabulary,
        both_ways=True,
        heard=True,
        teacher=0.0,
        phases=(PhaseConfig(steps, ("uniform",)),),
        optimizer=OptimizerConfig(rate=2e-4, warmup=steps // 10, ahead=30.0, average=0.98),
        augmented=0.0,
        joined=0.0,
        canvases=CANVASES,
        sample=8192,
        save_every=max(1, steps // 4),
    )
    scratch = DenoiserConfig(
        vocabulary=_WHISPER.vocabulary, width=_WHISPER.width, heads=_WHISPER.heads,
        layers=_WHISPER.decoder_layers, audio_width=_WHISPER.width, hidden=1024, warm=False,
    )  # fmt: skip

    def other(name: str, *phases: PhaseConfig, **changes: object) -> TrainConfig:
        changed = dataclasses.replace(uniform, work=out / name, phases=phases or uniform.phases)
        return dataclasses.replace(changed, **changes)  # type: ignore[arg-type]

    first = PhaseConfig(half, ("uniform",))
    return {
        "uniform": uniform,
        "high_mask": other("high_mask", first, PhaseConfig(half, ("high_mask",))),
        "self_correction": other(
            "self_correction", first, PhaseConfig(half // 2, ("uniform",), rounds=2)
        ),
        "adapters": other("adapters", both_ways=False),
        "scratch": other(
            "scratch", both_ways=False, denoiser=scratch,
            optimizer=OptimizerConfig(rate=1e-3, warmup=steps // 10, average=0.98),
        ),
    }  # fmt: skip
