"""The CTC head that drafts for base in twelve languages: what ships."""

import dataclasses
from pathlib import Path

from configs.base_ctc import CONFIG as ENGLISH
from whisfusion_jax.config import OptimizerConfig, PhaseConfig

DATA = Path("data")
MADE = ("de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "zh")
CAPTIONS = ("fr", "es", "ru")
PROMPTS = ("es", "fr", "it", "ru")
SETS = (
    *(f"synthetic_speech/{language}_0" for language in MADE),
    *(f"manifest_speech/captions_{language}" for language in CAPTIONS),
    *(f"manifest_speech/prompts_{language}" for language in PROMPTS),
    "manifest_speech/librispeech_train",
    "manifest_speech/lj_train",
)

CONFIG = dataclasses.replace(
    ENGLISH,
    work=ENGLISH.work.with_name("base_ctc_eleven"),
    data=tuple(DATA / f"{name}/1.0.0" for name in SETS),
    start="base",
    heard_above=-1.0,
    joined=0.1,
    augmented=0.3,
    phases=(PhaseConfig(1000, ()),),
    optimizer=OptimizerConfig(rate=8e-4, warmup=50, final=0.03, average=0.99, weight_decay=0.01),
)
