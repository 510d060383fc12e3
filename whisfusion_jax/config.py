"""Typed, frozen settings: a bundle's `config.json`, and keys of compiled programs."""

import dataclasses
import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from whisfusion_jax.errors import WhisfusionError

FRAMES_PER_SECOND = 50
"""Of the encoder: two log-mel frames each."""

BUNDLE_FORMAT = 2
"""Of bundles' directories."""


class _FromDict:
    """Strict JSON-style construction, shared by every config."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from parsed JSON; lists become tuples.

        Raises:
            WhisfusionError: a field is unknown (the nearest known name is suggested) or missing.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in data:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise WhisfusionError(f"{cls.__name__} has no field {key!r}{hint}")
        missing = [
            name
            for name, field in fields.items()
            if name not in data
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise WhisfusionError(f"{cls.__name__} lacks {', '.join(missing)}")
        return cls(**{key: _frozen(value) for key, value in data.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class WhisperConfig(_FromDict):
    """Sizes of a Whisper model (OpenAI's `ModelDimensions`, in full words).

    Every published Whisper has feed-forward layers of four times the width and 64 features a head.
    """

    mel_bins: int
    vocabulary: int
    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    audio_positions: int = 1500
    """Encoder frames of a full window: 30 s at FRAMES_PER_SECOND."""
    text_positions: int = 448
    """The longest token row that the decoder's positions reach."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise WhisfusionError(f"WhisperConfig.{field.name} must be at least 1")
        if self.width % self.heads:
            raise WhisfusionError(
                f"WhisperConfig.width {self.width} is no multiple of its {self.heads} heads"
            )

    @property
    def multilingual(self) -> bool:
        """OpenAI's own rule: English-only vocabularies are one or more rows shorter."""
        return self.vocabulary >= 51_865


def _whisper(
    width: int, layers: int, vocabulary: int = 51_865, mel_bins: int = 80, decoder_layers: int = 0
) -> WhisperConfig:
    return WhisperConfig(
        mel_bins=mel_bins,
        vocabulary=vocabulary,
        width=width,
        heads=width // 64,
        encoder_layers=layers,
        decoder_layers=decoder_layers or layers,
    )


WHISPER_SIZES: Mapping[str, WhisperConfig] = {
    "tiny.en": _whisper(384, 4, 51_864),
    "tiny": _whisper(384, 4),
    "base.en": _whisper(512, 6, 51_864),
    "base": _whisper(512, 6),
    "small.en": _whisper(768, 12, 51_864),
    "small": _whisper(768, 12),
    "medium.en": _whisper(1024, 24, 51_864),
    "medium": _whisper(1024, 24),
    "large": _whisper(1280, 32),
    "large-v2": _whisper(1280, 32),
    "large-v3": _whisper(1280, 32, 51_866, mel_bins=128),
    "large-v3-turbo": _whisper(1280, 32, 51_866, mel_bins=128, decoder_layers=4),
}
"""The published models' sizes, from their public configurations."""


@dataclass(frozen=True)
class TokenRules(_FromDict):
    """Which tokens Whisper's decoder may not write (its generation settings, timestamps off)."""

    suppress: tuple[int, ...] = ()
    """Never written: music signs, brackets, speaker dashes, task tokens."""
    suppress_first: tuple[int, ...] = ()
    """Never the first token of the text: a blank, the end token."""


@dataclass(frozen=True)
class MemoryConfig(_FromDict):
    """How a bundle's padding memory was made (docs/padding_memory.md)."""

    pool: int = 10
    """Encoder frames that one memory vector stands for (50 a second)."""
    first_frame: int = 300
    """Encoder frame where the memory begins: the end of the smallest bucket."""
    loudness: float | None = 1.5
    """Where the log-mel's maximum is put, in log10 power, so that silence has one value;
    None leaves it, as Whisper does."""

    def __post_init__(self) -> None:
        if self.pool < 1 or self.first_frame < 0 or self.first_frame % self.pool:
            raise WhisfusionError(
                f"memory: first_frame {self.first_frame} is no multiple of pool {self.pool}"
            )

    def fits(self, frames: int) -> bool:
        """Whether the memory can follow a bucket of this many encoder frames."""
        return frames >= self.first_frame and (frames - self.first_frame) % self.pool == 0


@dataclass(frozen=True)
class DenoiserConfig(_FromDict):
    """Sizes and kind of a masked-diffusion decoder."""

    vocabulary: int
    """Tokens it can write: the whole of Whisper's, or a shortlist."""
    width: int
    heads: int
    layers: int
    audio_width: int
    """Of the encoder's states."""
    hidden: int
    """Width inside feed-forward layers."""
    warm: bool
    """Whisper's decoder with adapters at positions that are asked; else the paper's Transformer:
    RMSNorm, rotary positions, SwiGLU, no biases."""
    rank: int = 0
    """Of the adapters of positions that are asked; 0 is without."""
    positions: int = 448
    """The longest prompt and canvas together; a table of that many in the warm kind."""
    shared_heads: int | None = None
    """Heads of cross-attention's keys and values; None is `heads`. Not in the warm kind."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % (self.shared_heads or self.heads):
            raise WhisfusionError(
                f"DenoiserConfig: {self.heads} heads divide neither width {self.width} "
                f"nor into {self.shared_heads} shared ones"
            )
        if self.warm and self.shared_heads not in (None, self.heads):
            raise WhisfusionError("DenoiserConfig: a warm denoiser shares no heads")

    @classmethod
    def of_whisper(
        cls, model: WhisperConfig, vocabulary: int | None = None, rank: int = 64
    ) -> Self:
        """The warm denoiser of a Whisper."""
        return cls(
            vocabulary=vocabulary or model.vocabulary,
            width=model.width,
            heads=model.heads,
            layers=model.decoder_layers,
            audio_width=model.width,
            hidden=4 * model.width,
            warm=True,
            rank=rank,
            positions=model.text_positions,
        )


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work; the axes multiply to their number."""

    data: int | None = None
    """Groups that have the whole model each and read rows of their own; None is as many as fit."""
    fsdp: int = 1
    """Devices of a group that the weights are spread over; each reads rows of its own, too."""
    tensor: int = 1
    """Devices that share the arithmetic of the same rows."""

    def __post_init__(self) -> None:
        if min(self.data or 1, self.fsdp, self.tensor) < 1:
            raise WhisfusionError(f"{self}: every axis must be at least 1")


ROWS = ("data", "fsdp")
"""Axes of the mesh that a batch's rows are spread over."""


@dataclass(frozen=True)
class ProcessesConfig:
    """How the processes of a run find each other; by default there is one."""

    find: bool = False
    """Ask Slurm, MPI, Kubernetes or the TPU's own environment."""
    coordinator: str | None = None
    """Instead: the first process's HOST:PORT, the same for all,"""
    count: int | None = None
    """how many there are,"""
    number: int | None = None
    """and which one this is, from 0."""

    def __post_init__(self) -> None:
        given = [self.coordinator is not None, self.count is not None, self.number is not None]
        if any(given) and (self.find or not all(given)):
            raise WhisfusionError(
                "processes: give coordinator, count and number, or find, or nothing"
            )


@dataclass(frozen=True)
class PhaseConfig:
    """A stretch of training."""

    steps: int
    masking: tuple[Literal["uniform", "high_mask", "ahead"], ...]
    """Corruptions that an audio's canvases take in turn (diffusion/corruption.py)."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a warm-up and a cosine decay over the whole run."""

    rate: float = 3e-4
    warmup: int = 100
    """Steps."""
    final: float = 0.05
    """The last rate, as a share of the first."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float = 1.0
    """The gradient's largest norm."""
    average: float = 0.999
    """Decay of the parameters' moving average."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run of a denoiser on a frozen Whisper encoder."""

    work: Path
    """Directory of the run: its checkpoints and logs."""
    data: tuple[Path, ...]
    """Directories of prepared TFDS sets, such as DATA/synthetic_speech/en_0/1.0.0."""
    sentences: tuple[Path, ...]
    """Text files whose tokens make the shortlist, beside Whisper's commonest."""
    phases: tuple[PhaseConfig, ...]
    bundle: str = "tiny.en"
    """Whisper, by name or directory; with a padding memory."""
    denoiser: DenoiserConfig | None = None
    """Sizes of one from scratch; None starts from Whisper's decoder. The vocabulary's size is
    that of the shortlist, whatever stands here."""
    start: str | None = None
    """A bundle whose denoiser to go on from, with its shortlist; by name or directory."""
    commonest: int = 10_000
    """Of Whisper's tokens, so many are in the shortlist anyway."""
    optimizer: OptimizerConfig = OptimizerConfig()
    learned: tuple[str, ...] | None = None
    """Patterns of the names of parameters that learn; None is what the warm kind adds to Whisper,
    and all of one from scratch."""
    augmented: float = 0.4
    """Share of the examples that are made harder to hear."""
    joined: float = 0.15
    """Longer examples, out of several; as a share of the others."""
    wordless: float = 0.03
    """Silence, noise and tones with empty text; as a share of the others."""
    positions: int = 4608
    """Canvas positions that a batch reads, of all devices."""
    canvases: int = 8
    """Of each audio."""
    stretch: int | None = None
    """Read so many positions of each canvas, from its first mask on, as decoding by stretches
    does; of the warm kind only. None reads all."""
    sample: int | None = None
    """Tokens that the softmax is over: a batch's own, and others drawn anew for each; None is the
    whole vocabulary."""
    keep_states: bool = True
    """Encode every example once and keep its states on disk, so that epochs cost the decoder
    alone; else each step encodes its batch, without a teacher."""
    states: Path | None = None
    """Directory of these states, or else of the examples' lengths and texts (`examples.npz`), which
    runs on the same data can share; None is in `work`."""
    heard: bool = False
    """Learn the text that Whisper itself writes, not the one beside the speech, which may be
    missing: for the drafts of exact decoding, which Whisper must agree to. With `keep_states`."""
    teacher: float = 1.0
    """Share of the target that is Whisper's own distribution where it is sure of the text."""
    inverse_ratio: bool = False
    """Weigh rows by one over their mask ratio."""
    report_every: int = 25
    """Steps whose means make one line of the log."""
    save_every: int = 200
    keep: int = 2
    """The newest checkpoints that stay, beside the one with the fewest errors on `dev`."""
    most_skipped: int = 10
    """Steps in a row whose loss or gradient is no number, before the run stops. Such a step
    changes nothing."""
    dev: Path | None = None
    """A manifest to transcribe at each save, for the error rate; never trained on."""
    mesh: MeshConfig = MeshConfig()
    processes: ProcessesConfig = ProcessesConfig()
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations, gradients of them, and frozen weights; what learns is float32 in any case."""
    accumulate: int = 1
    """Parts that a batch is read in, one after another, so that it needs less memory at once."""
    scan: Literal["nothing", "products"] | None = None
    """Compile one layer for all alike ones, whose activations are computed again for the gradient
    (models/stack.py says what is kept); for large models. None keeps all."""
    seed: int = 0
    stop_at: int | None = None
    """Stop after this step, to go on another time; None runs to the end."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


def read_config(path: Path) -> TrainConfig:
    """The `CONFIG` that a Python file in `configs/` builds.

    Raises:
        WhisfusionError: there is no such file, or it builds none.
    """
    spec = importlib.util.spec_from_file_location("config", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise WhisfusionError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(config := getattr(module, "CONFIG", None), TrainConfig):
        raise WhisfusionError(f"{path}: defines no CONFIG that is a TrainConfig")
    return config


@dataclass(frozen=True)
class BundleConfig:
    """A bundle's `config.json`."""

    model: WhisperConfig
    rules: TokenRules = TokenRules()
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) pairs whose cross-attention follows the audio; for word times."""
    memory: MemoryConfig | None = None
    denoiser: DenoiserConfig | None = None
    source: str = ""
    """Where the weights came from, and their licence, in words."""

    def to_dict(self) -> dict[str, Any]:
        return {"format": BUNDLE_FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BundleConfig":
        """Inverse of `to_dict`.

        Raises:
            WhisfusionError: the format is another, or a field is unknown or missing.
        """
        fields = dict(data)
        if (version := fields.pop("format", None)) != BUNDLE_FORMAT:
            raise WhisfusionError(
                f"bundle format {version} is not {BUNDLE_FORMAT}, the one this release reads"
            )
        if "model" not in fields:
            raise WhisfusionError("the bundle's config has no model")
        memory, denoiser = fields.get("memory"), fields.get("denoiser")
        return cls(
            model=WhisperConfig.from_dict(fields["model"]),
            rules=TokenRules.from_dict(fields.get("rules", {})),
            alignment_heads=_frozen(fields.get("alignment_heads", [])),
            memory=None if memory is None else MemoryConfig.from_dict(memory),
            denoiser=None if denoiser is None else DenoiserConfig.from_dict(denoiser),
            source=fields.get("source", ""),
        )
