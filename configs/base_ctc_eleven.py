"""The CTC head that drafts for base in many languages: the last run of what ships."""

import dataclasses
from pathlib import Path

from configs.base_ctc import CONFIG as ENGLISH
from whisfusion_jax.config import OptimizerConfig, PhaseConfig

DATA = Path("data")
MORE = Path("data_more")  # other sentences: `made --seed 1 --data-dir data_more`
SETS = (
    *(DATA / f"synthetic_speech/{language}_0" for language in ("de", "es", "fr", "it", "ja", "pt")),
    *(MORE / f"synthetic_speech/{language}_0" for language in ("de", "en", "es", "fr", "it", "ja")),
    DATA / "synthetic_speech/ru_0",
    *(DATA / f"manifest_speech/captions_{language}" for language in ("fr", "es", "ru")),
    *(DATA / f"manifest_speech/prompts_{language}" for language in ("es", "fr", "it", "ru")),
    *(DATA / f"manifest_speech/more_{language}" for language in ("es", "fr", "it")),
    *(DATA / f"manifest_speech/drascula_{language}" for language in ("es", "en")),
    DATA / "manifest_speech/librispeech_train",
    DATA / "manifest_speech/lj_train",
    DATA / "manifest_speech/voiceacting",
)

CONFIG = dataclasses.replace(
    ENGLISH,
    work=ENGLISH.work.with_name("base_ctc_eleven"),
    data=tuple(path / "1.0.0" for path in SETS),
    start="base",  # as of commit 5072520, and the runs between (docs/training.md)
    heard_above=-3.0,
    joined=0.05,
    augmented=0.3,
    phases=(PhaseConfig(2000, ()),),
    seed=11,
    optimizer=OptimizerConfig(rate=7e-4, warmup=50, final=0.02, average=0.99, weight_decay=0.01),
)
