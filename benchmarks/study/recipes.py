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


def recipes(
    out: Path, data: tuple[Path, ...], steps: int, heard_batches: int | None = None
) -> dict[str, TrainConfig]:
    """Training runs by name; each reads as many canvases, a round counting as one more of each.

    Args:
        out: where they work, a directory each; what the encoder says is shared.
        data: prepared sets.
        steps: of one round.
        heard_batches: for an accelerator: steps are ten times as large, on so many batches of
            speech that is cut and varied in its memory; None reads what the encoder says from disk.
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
    if heard_batches is not None:
        uniform = dataclasses.replace(
            uniform,
            states=None,
            keep_states=False,
            heard_batches=heard_batches,
            positions=10 * uniform.positions,
            sample=16_384,
            augmented=0.3,
            joined=0.3,
            dtype="bfloat16",
            save_every=steps,
            optimizer=dataclasses.replace(uniform.optimizer, rate=4e-4, average=0.99),
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
        "drafted": other(
            "drafted", first, PhaseConfig(half, ("uniform", "high_mask"), drafted=1),
            drafts="tiny.en",
        ),
        "adapters": other("adapters", both_ways=False),
        "scratch": other(
            "scratch", both_ways=False, denoiser=scratch,
            optimizer=dataclasses.replace(uniform.optimizer, rate=1e-3, ahead=1.0),
        ),
    }  # fmt: skip
