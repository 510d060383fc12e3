"""A warm denoiser on Whisper tiny.en, sized for a laptop."""

from pathlib import Path

from whisfusion_jax.config import PhaseConfig, TrainConfig

DATA = Path("data")

CONFIG = TrainConfig(
    work=Path("runs/tiny_en"),
    data=tuple(DATA / f"synthetic_speech/en_{part}/1.0.0" for part in range(5)),
    sentences=(DATA / "sentences/en.txt",),
    phases=(
        PhaseConfig(3000, ("ahead", "uniform", "ahead", "high_mask")),
        PhaseConfig(1000, ("ahead", "high_mask")),
    ),
)
