"""The CTC head that drafts for base, in English, from real speech alone: an hour of two cores."""

import dataclasses

from configs.tiny_en_ctc import CONFIG as TINY
from whisfusion_jax.config import WHISPER_SIZES, CtcConfig, PhaseConfig

CONFIG = dataclasses.replace(
    TINY,
    work=TINY.work.with_name("base_ctc"),
    data=tuple(path for path in TINY.data if "manifest_speech" in path.parts),
    bundle="base",
    ctc=CtcConfig.of_whisper(WHISPER_SIZES["base"]),
    phases=(PhaseConfig(1200, ()),),
)
