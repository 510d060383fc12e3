"""The CTC head that drafts for base, in all languages of the data, as tiny.en's."""

import dataclasses

from configs.tiny_en_ctc_heard import CONFIG as TINY
from whisfusion_jax.config import WHISPER_SIZES, CtcConfig

CONFIG = dataclasses.replace(
    TINY,
    work=TINY.work.with_name("base_ctc_heard"),
    bundle="base",
    ctc=CtcConfig.of_whisper(WHISPER_SIZES["base"]),
)
