"""A denoiser of tiny.en that sees all and learns all of itself; on an accelerator."""

from pathlib import Path

from whisfusion_jax.config import OptimizerConfig, PhaseConfig, TrainConfig

DATA = Path("data")

CONFIG = TrainConfig(
    work=Path("runs/tiny_en_both_ways"),
    data=(
        DATA / "manifest_speech/librispeech_train/1.0.0",
        DATA / "manifest_speech/lj_train/1.0.0",
        DATA / "manifest_speech/voiceacting/1.0.0",
        DATA / "synthetic_speech/en_0/1.0.0",
    ),
    sentences=(),
    commonest=51_864,  # all of Whisper's tokens, as a head's drafts are of
    both_ways=True,
    drafts="tiny.en",
    phases=(PhaseConfig(400, ("uniform", "high_mask"), rounds=2, drafted=1),),
    optimizer=OptimizerConfig(rate=5e-4, warmup=40, final=0.02, ahead=30.0, average=0.995),
    heard=True,
    teacher=0.0,
    keep_states=False,
    heard_batches=150,
    positions=46_080,
    canvases=4,
    sample=16_384,
    dtype="bfloat16",
    augmented=0.3,
    joined=0.3,
    save_every=400,
)
