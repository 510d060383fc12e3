"""A denoiser from scratch on a Parakeet's frozen encoder, which mends what its CTC head hears.

The bundle is NeMo's archive, or transformers' directory, of parakeet-ctc-1.1b, converted
(`python -m tools.convert_weights parakeet-ctc-1.1b.nemo bundles/parakeet-ctc-1.1b`). The data are
yours, as in `configs/mdm_asr.py`.
"""

import dataclasses

from configs.mdm_asr import CONFIG as CANARY
from whisfusion_jax.config import DenoiserConfig, PhaseConfig

BUNDLE = "bundles/parakeet-ctc-1.1b"

CONFIG = dataclasses.replace(
    CANARY,
    work=CANARY.work.with_name("parakeet_from_scratch"),
    bundle=BUNDLE,
    drafts=BUNDLE,
    both_ways=False,
    denoiser=DenoiserConfig(
        vocabulary=1026, width=1024, heads=16, layers=12, audio_width=1024, hidden=2816,
        shared_heads=4, warm=False,
    ),
    phases=(PhaseConfig(200_000, ("uniform",), rounds=2, drafted=1),),
    canvases=2,
)  # fmt: skip
