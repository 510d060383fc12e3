"""The CTC head that drafts for base in many languages: the last run of what ships."""

import dataclasses
from pathlib import Path

from configs.base_ctc import CONFIG as ENGLISH
from whisfusion_jax.config import OptimizerConfig, PhaseConfig

DATA = Path("data")
MADE = ("de", "es", "fr", "it", "ja", "pt")
CAPTIONS = ("fr", "es", "ru")
PROMPTS = ("es", "fr", "it", "ru")
SETS = (
    *(f"synthetic_speech/{language}_0" for language in MADE),
    *(f"manifest_speech/captions_{language}" for language in CAPTIONS),
    *(f"manifest_speech/prompts_{language}" for language in PROMPTS),
    "manifest_speech/librispeech_train",
    "manifest_speech/lj_train",
    "manifest_speech/voiceacting",
)

CONFIG = dataclasses.replace(
    ENGLISH,
    work=ENGLISH.work.with_name("base_ctc_eleven"),
    data=tuple(DATA / f"{name}/1.0.0" for name in SETS),
    start="base",  # as of commit 5e87481
    heard_above=-3.0,
    joined=0.05,
    augmented=0.3,
    phases=(PhaseConfig(2400, ()),),
    seed=3,
    optimizer=OptimizerConfig(rate=8e-4, warmup=50, final=0.03, average=0.99, weight_decay=0.01),
)
