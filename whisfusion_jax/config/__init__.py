"""Typed, frozen settings, by subject: models, devices, training."""

from whisfusion_jax.config.devices import (
    ROWS,
    MeshConfig,
    ProcessesConfig,
)
from whisfusion_jax.config.models import (
    BUNDLE_FORMAT,
    FRAMES_PER_SECOND,
    SINGLE_BYTES,
    WHISPER_SIZES,
    BundleConfig,
    CanaryConfig,
    CtcConfig,
    DecoderKind,
    DenoiserConfig,
    FastConformerConfig,
    MemoryConfig,
    ModelConfig,
    ParakeetConfig,
    TokenRules,
    WhisperConfig,
)
from whisfusion_jax.config.training import (
    OptimizerConfig,
    PhaseConfig,
    TrainConfig,
    read_config,
)

__all__ = [
    "BUNDLE_FORMAT",
    "FRAMES_PER_SECOND",
    "ROWS",
    "SINGLE_BYTES",
    "WHISPER_SIZES",
    "BundleConfig",
    "CanaryConfig",
    "CtcConfig",
    "DecoderKind",
    "DenoiserConfig",
    "FastConformerConfig",
    "MemoryConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParakeetConfig",
    "PhaseConfig",
    "ProcessesConfig",
    "TokenRules",
    "TrainConfig",
    "WhisperConfig",
    "read_config",
]
