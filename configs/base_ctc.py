"""The CTC head that drafts for base, in English; not trained yet."""

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
    work=Path("runs/base_ctc"),
    data=tuple(
        DATA / f"manifest_speech/{name}/1.0.0"
        for name in ("librispeech_train", "lj_train", "voiceacting")
    ),
    sentences=(),
    bundle="base",
    ctc=CtcConfig.of_whisper(WHISPER_SIZES["base"]),
    heard=True,
    teacher=0.0,
    phases=(PhaseConfig(1800, ()),),
    optimizer=OptimizerConfig(rate=1.5e-3, warmup=100, final=0.03, average=0.99, weight_decay=0.01),
    joined=0.2,
    wordless=0.02,
    positions=2000,
    canvases=1,
    save_every=150,
)
