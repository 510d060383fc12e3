"""MDM-ASR (arXiv 2602.18952): Canary's decoder without its causal mask, by self-correction.

Its encoder is frozen. The bundle is NeMo's archive of canary-1b-flash, converted
(`python -m tools.convert_weights canary-1b-flash.nemo bundles/canary-1b-flash`). The data are
yours: any TFDS sets with audio and text, prepared as array_record, a directory each.
"""

from pathlib import Path

from whisfusion_jax.config import OptimizerConfig, PhaseConfig, TrainConfig

DATA = Path("data")
SETS = ("librispeech", "earnings22", "ami", "voxpopuli_en", "mls_de", "mls_es", "mls_fr")

CONFIG = TrainConfig(
    work=Path("runs/mdm_asr"),
    bundle="bundles/canary-1b-flash",
    data=tuple(DATA / f"{name}/1.0.0" for name in SETS),
    sentences=(),
    both_ways=True,
    phases=(PhaseConfig(200_000, ("uniform",), rounds=2),),
    optimizer=OptimizerConfig(rate=5e-4, warmup=2000, betas=(0.9, 0.999), average=0.9999),
    inverse_ratio=True,
    seen=0.0,
    canvases=1,
    positions=8192,
    keep_states=False,
    teacher=0.0,
    dtype="bfloat16",
    save_every=2000,
)
