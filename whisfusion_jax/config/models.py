"""Sizes of models, and a bundle's `config.json`, which says them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from whisfusion_jax.config.strict import FromDict, frozen
from whisfusion_jax.errors import WhisfusionError

FRAMES_PER_SECOND = 50
"""Of the encoder: two log-mel frames each."""

SINGLE_BYTES = 256
"""Whisper's first tokens: with them every text can be written."""

BUNDLE_FORMAT = 2
"""Of bundles' directories."""


@dataclass(frozen=True)
class DecoderKind(FromDict):
    """How a Transformer decoder differs from Whisper's, which is the default."""

    relu: bool = False
    """Between feed-forward layers; else a GELU."""
    normed_embedding: bool = False
    """A layer norm behind the sum of token and position."""
    output_bias: bool = False
    """One for each token, behind the output layer."""


@dataclass(frozen=True)
class WhisperConfig(FromDict):
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
    kind: ClassVar[DecoderKind] = DecoderKind()
    hears_padding: ClassVar[bool] = True
    """So that windows shorter than 30 s need a padding memory."""
    hears_language: ClassVar[bool] = True
    """Whether its decoder names the language that is spoken."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise WhisfusionError(f"WhisperConfig.{field.name} must be at least 1")
        if self.width % self.heads:
            raise WhisfusionError(
                f"WhisperConfig.width {self.width} is no multiple of its {self.heads} heads"
            )

    @property
    def hidden(self) -> int:
        """Width inside feed-forward layers."""
        return 4 * self.width

    @property
    def layers(self) -> Mapping[str, int]:
        """Of the encoder and the decoder."""
        return {"encoder": self.encoder_layers, "decoder": self.decoder_layers}

    @property
    def multilingual(self) -> bool:
        """OpenAI's own rule: English-only vocabularies are one or more rows shorter."""
        return self.vocabulary >= 51_865

    def frames(self, seconds: int) -> int:
        """Of the encoder, in so much audio."""
        return seconds * FRAMES_PER_SECOND


@dataclass(frozen=True)
class FastConformerConfig(FromDict):
    """Sizes of a FastConformer encoder (NeMo's, in full words)."""

    mel_bins: int
    width: int
    heads: int
    layers: int
    hidden: int
    """Width inside feed-forward layers."""
    channels: int = 256
    """Of the convolutions that join frames."""
    taps: int = 9
    """Of each block's convolution."""
    bias: bool = True
    """Whether linear layers and convolutions have one; those that join frames always do."""
    scaled: bool = False
    """Whether the joined frames are multiplied by the root of the width (NeMo's `xscaling`)."""
    projected: int | None = None
    """Width that states are projected to, for a decoder of another; None leaves them."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.taps % 2 == 0 or self.mel_bins % 8:
            raise WhisfusionError(
                f"FastConformerConfig: width {self.width} in {self.heads} heads, {self.taps} taps "
                f"(an odd number), {self.mel_bins} mel bins (a multiple of 8)"
            )

    def frames(self, seconds: int) -> int:
        """Of so much audio: eight log-mel frames each."""
        return -(-seconds * 100 // 8)


@dataclass(frozen=True)
class CanaryConfig(FromDict):
    """Sizes of a Canary: a FastConformer and a Transformer decoder."""

    encoder: FastConformerConfig
    vocabulary: int
    width: int
    """Of the decoder, and of the states that it attends to."""
    heads: int
    hidden: int
    """Width inside feed-forward layers."""
    decoder_layers: int
    text_positions: int = 1024
    kind: ClassVar[DecoderKind] = DecoderKind(relu=True, normed_embedding=True, output_bias=True)
    multilingual: ClassVar[bool] = True
    hears_padding: ClassVar[bool] = False
    hears_language: ClassVar[bool] = False

    @property
    def layers(self) -> Mapping[str, int]:
        """Of the encoder and the decoder."""
        return {"encoder": self.encoder.layers, "decoder": self.decoder_layers}

    def frames(self, seconds: int) -> int:
        """Of the encoder, in so much audio: eight log-mel frames each."""
        return self.encoder.frames(seconds)


@dataclass(frozen=True)
class ParakeetConfig(FromDict):
    """Sizes of a Parakeet: a FastConformer alone, whose CTC head writes."""

    encoder: FastConformerConfig
    vocabulary: int
    """Text tokens, an end token, and one to start from."""
    multilingual: ClassVar[bool] = False
    hears_padding: ClassVar[bool] = False
    hears_language: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Of the states."""
        return self.encoder.width

    @property
    def layers(self) -> Mapping[str, int]:
        """Of the encoder."""
        return {"encoder": self.encoder.layers}

    def frames(self, seconds: int) -> int:
        """Of the encoder, in so much audio: eight log-mel frames each."""
        return self.encoder.frames(seconds)


ModelConfig = WhisperConfig | CanaryConfig | ParakeetConfig
"""Of a pre-trained encoder, and of its decoder if it has one."""


def model_config(data: Mapping[str, Any]) -> ModelConfig:
    """Sizes of any kind, as `dataclasses.asdict` wrote them."""
    if "encoder" not in data:
        return WhisperConfig.from_dict(data)
    return (CanaryConfig if "decoder_layers" in data else ParakeetConfig).from_dict(data)


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
class TokenRules(FromDict):
    """Which tokens Whisper's decoder may not write (its generation settings, timestamps off)."""

    suppress: tuple[int, ...] = ()
    """Never written: music signs, brackets, speaker dashes, task tokens."""
    suppress_first: tuple[int, ...] = ()
    """Never the first token of the text: a blank, the end token."""


@dataclass(frozen=True)
class MemoryConfig(FromDict):
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
class DenoiserConfig(FromDict):
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
    kind: DecoderKind = DecoderKind()
    """Of the decoder that a warm one comes from."""
    both_ways: bool = False
    """Every position sees all others, masks among them, as in MDM-ASR; for the warm kind, which
    else looks as Whisper's decoder does where nothing is asked. The kind from scratch always so."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % (self.shared_heads or self.heads):
            raise WhisfusionError(
                f"DenoiserConfig: {self.heads} heads divide neither width {self.width} "
                f"nor into {self.shared_heads} shared ones"
            )
        if self.warm and self.shared_heads not in (None, self.heads):
            raise WhisfusionError("DenoiserConfig: a warm denoiser shares no heads")

    @property
    def sees_all(self) -> bool:
        """Whether every position sees all others."""
        return self.both_ways or not self.warm

    @classmethod
    def of_decoder(
        cls,
        model: WhisperConfig | CanaryConfig,
        vocabulary: int | None = None,
        rank: int = 64,
        both_ways: bool = False,
    ) -> Self:
        """The warm denoiser of a Whisper's decoder, or a Canary's."""
        return cls(
            vocabulary=vocabulary or model.vocabulary,
            width=model.width,
            heads=model.heads,
            layers=model.decoder_layers,
            audio_width=model.width,
            hidden=model.hidden,
            warm=True,
            rank=rank,
            positions=model.text_positions,
            kind=model.kind,
            both_ways=both_ways,
        )


@dataclass(frozen=True)
class CtcConfig(FromDict):
    """Sizes of a CTC head (models/ctc.py)."""

    width: int
    """Of the encoder's states and the head's own."""
    heads: int
    pieces: int = 2048
    """Of words, that it spells in: Whisper's first tokens."""
    layers: int = 2
    """Of those that hear what is near; one of attention is behind them."""
    stride: int = 4
    """Frames that are joined: 80 ms."""
    plain: bool = False
    """A pre-trained encoder's own, whose pieces are the model's tokens: one linear layer, before
    which nothing is joined and no more is heard."""

    def __post_init__(self) -> None:
        if self.plain:
            return
        if self.width % self.heads or self.stride < 1:
            raise WhisfusionError(
                f"CtcConfig: width {self.width} in {self.heads} heads, {self.stride} frames joined"
            )
        if self.pieces < SINGLE_BYTES:
            raise WhisfusionError(f"CtcConfig: {self.pieces} pieces spell no text")

    @classmethod
    def of_whisper(cls, model: WhisperConfig, layers: int = 2) -> Self:
        """The head of a Whisper's encoder."""
        return cls(width=model.width, heads=model.heads, layers=layers)

    @classmethod
    def of_encoder(cls, model: ParakeetConfig, pieces: int) -> Self:
        """The head that a FastConformer was trained with."""
        heads = model.encoder.heads
        return cls(width=model.width, heads=heads, pieces=pieces, layers=0, stride=1, plain=True)

    def moments(self, frames: int) -> int:
        """That the head hears in so many frames."""
        return -(-frames // self.stride)


@dataclass(frozen=True)
class BundleConfig:
    """A bundle's `config.json`."""

    model: ModelConfig
    rules: TokenRules = TokenRules()
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) pairs whose cross-attention follows the audio; for word times."""
    memory: MemoryConfig | None = None
    denoiser: DenoiserConfig | None = None
    ctc: CtcConfig | None = None
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
        memory, denoiser, ctc = (fields.get(name) for name in ("memory", "denoiser", "ctc"))
        return cls(
            model=model_config(fields["model"]),
            rules=TokenRules.from_dict(fields.get("rules", {})),
            alignment_heads=frozen(fields.get("alignment_heads", [])),
            memory=None if memory is None else MemoryConfig.from_dict(memory),
            denoiser=None if denoiser is None else DenoiserConfig.from_dict(denoiser),
            ctc=None if ctc is None else CtcConfig.from_dict(ctc),
            source=fields.get("source", ""),
        )
