"""Whisfusion's decoder from scratch on the encoder of Whisper large-v3, eleven languages.

486 million parameters. The data are public (`python -m tools.prepare_speech public` says where they
are and how to prepare them), or yours: any TFDS sets with audio and text, as array_record.
"""

from pathlib import Path

from tools.prepare_speech.public_sets import directories
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig, PhaseConfig, TrainConfig

CONFIG = TrainConfig(
    work=Path("runs/whisfusion_large_v3"),
    bundle="large-v3",
    data=directories(Path("data")),
    sentences=(),
    commonest=50_257,  # all of Whisper's text tokens
    denoiser=DenoiserConfig(
        vocabulary=51_866,
        width=1280,
        heads=20,
        layers=16,
        audio_width=1280,
        hidden=3416,
        warm=False,
    ),
    phases=(PhaseConfig(200_000, ("uniform",)), PhaseConfig(50_000, ("high_mask",))),
    optimizer=OptimizerConfig(
        rate=1e-4, warmup=2000, betas=(0.9, 0.95), weight_decay=0.1, clip=0.5, average=0.9999
    ),
    positions=163_840,  # 256 windows of 30 s
    dtype="bfloat16",
    scan="nothing",
    canvases=4,
    keep_states=False,
    teacher=0.0,
    save_every=2000,
)
