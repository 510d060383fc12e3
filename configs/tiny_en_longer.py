"""The shipped denoiser's second run: on from the first, by stretches, on the same speech."""

import dataclasses

from configs.tiny_en import CONFIG as FIRST
from whisfusion_jax.config import OptimizerConfig, PhaseConfig

CONFIG = dataclasses.replace(
    FIRST,
    work=FIRST.work.with_name("tiny_en_longer"),
    states=FIRST.work / "encoded",
    start=str(FIRST.work / "bundle"),
    phases=(PhaseConfig(1200, FIRST.phases[0].masking),),
    optimizer=OptimizerConfig(rate=1e-3, warmup=25),
    canvases=12,
    stretch=8,
    sample=8192,
)
