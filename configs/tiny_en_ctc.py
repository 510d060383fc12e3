"""The CTC head that drafts for tiny.en: what ships."""

from pathlib import Path

from whisfusion_jax.config import (
    WHISPER_SIZES,
    CtcConfig,
    OptimizerConfig,
    PhaseConfig,
    TrainConfig,
)

DATA = Path("data")

CONFIG = TrainConfig(
    work=Path("runs/tiny_en_ctc"),
    data=tuple(
        DATA / f"{name}/1.0.0"
        for name in (
            "manifest_speech/librispeech_train",
            "manifest_speech/lj_train",
            "manifest_speech/voiceacting",
            "synthetic_speech/en_0",
            "synthetic_speech/en_1",
        )
    ),
    sentences=(),
    ctc=CtcConfig.of_whisper(WHISPER_SIZES["tiny.en"]),
    heard=True,
    teacher=0.0,
    phases=(PhaseConfig(3000, ()),),
    optimizer=OptimizerConfig(rate=1.5e-3, warmup=100, final=0.03, average=0.99, weight_decay=0.01),
    joined=0.2,
    wordless=0.02,
    positions=2000,
    canvases=1,
    save_every=150,
)
