"""The CTC head that drafts for tiny.en, on an accelerator: it hears anew what each step varies."""

import dataclasses

from configs.tiny_en_ctc import CONFIG as TINY
from whisfusion_jax.config import OptimizerConfig, PhaseConfig

CONFIG = dataclasses.replace(
    TINY,
    work=TINY.work.with_name("tiny_en_ctc_heard"),
    phases=(PhaseConfig(6000, ()),),
    optimizer=OptimizerConfig(
        rate=1.5e-3, warmup=300, final=0.02, average=0.998, weight_decay=0.02
    ),
    keep_states=False,
    dtype="bfloat16",
    augmented=0.5,
    joined=0.4,
    positions=32_000,
    report_every=50,
    save_every=1000,
)
