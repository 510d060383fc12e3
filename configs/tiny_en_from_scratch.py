"""The same size as the warm tiny.en, on the same data, without Whisper's decoder: to compare."""

import dataclasses

from configs.tiny_en import CONFIG as WARM
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig

CONFIG = dataclasses.replace(
    WARM,
    work=WARM.work.with_name("tiny_en_from_scratch"),
    states=WARM.work / "encoded",
    denoiser=DenoiserConfig(
        vocabulary=24_580, width=384, heads=6, layers=4, audio_width=384, hidden=1024, warm=False
    ),
    optimizer=OptimizerConfig(rate=1e-3, betas=(0.9, 0.95)),
)
