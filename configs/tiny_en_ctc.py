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
        DATA / f"manifest_speech/{name}/1.0.0"
        for name in ("librispeech_train", "lj_train", "voiceacting")
    ),
    sentences=(DATA / "sentences/en.txt",),
    ctc=CtcConfig.of_whisper(WHISPER_SIZES["tiny.en"], vocabulary=16_384),
    heard=True,
    teacher=0.0,
    phases=(PhaseConfig(1400, ()),),
    optimizer=OptimizerConfig(rate=1e-3, warmup=50, final=0.03, average=0.99, weight_decay=0.01),
    joined=0.2,
    wordless=0.02,
    positions=1536,
    canvases=1,
    sample=3072,
    save_every=150,
)
