"""A warm denoiser on Whisper tiny.en, sized for a laptop: the one that ships."""

from pathlib import Path

from whisfusion_jax.config import OptimizerConfig, PhaseConfig, TrainConfig

DATA = Path("data")

CONFIG = TrainConfig(
    work=Path("runs/tiny_en"),
    data=(
        *(DATA / f"synthetic_speech/en_{part}/1.0.0" for part in range(5)),
        DATA / "manifest_speech/fsdd/1.0.0",
    ),
    sentences=(DATA / "sentences/en.txt",),
    phases=(PhaseConfig(2900, ("ahead", "ahead", "ahead", "high_mask")),),
    optimizer=OptimizerConfig(rate=2e-3, warmup=50),
    joined=0.0,
    positions=2304,
)
