"""The decoders that a Transcriber can use, each from the same encoder's states to texts."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.autoregressive import Vocabulary
from whisfusion_jax.decoding.beam import decode_by_beam
from whisfusion_jax.decoding.branches import TREE, Branches
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.denoising import FREE, DenoisingSettings, Draws, denoise
from whisfusion_jax.decoding.drafting import DenoiserDrafter
from whisfusion_jax.decoding.exact import decode_exactly
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.stretches import denoise_by_stretches
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates

DecoderName = Literal["diffusion", "exact", "ar"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Texts:
    """What a decoder writes for a batch, in its own tokens; on the device until the end."""

    tokens: jax.Array
    """[batch, candidates, n] int32: the text, then end tokens."""
    confidence: jax.Array
    """[batch, candidates, n] float32: each token's probability when it was written."""
    fixed_at: jax.Array
    """[batch, candidates, n] int32: the step, from 1, that wrote each token."""
    steps: jax.Array
    """[batch, candidates] int32: passes of the decoder, or rounds of exact decoding, until the text
    was there."""
    language: jax.Array
    """[batch] int32: the language token, given or heard; -1 if there is none."""
    no_speech: jax.Array
    """[batch] float32: Whisper's probability that nobody speaks; NaN if it isn't asked."""


@dataclass(frozen=True)
class Autoregressive:
    """Whisper's own decoder: one token a step."""

    vocabulary: Vocabulary
    beams: int = 1
    max_tokens: int = 224

    def __call__(
        self,
        model: Decoder,
        audio: AudioStates,
        prompt: jax.Array,
        draws: Draws,
        seconds: int,
    ) -> Texts:
        """Write a batch's texts.

        Args:
            model: Whisper's.
            audio: [batch, positions, width].
            prompt: [batch, p] int32, see `read_prompt`.
        """
        args = (model, audio, prompt, self.vocabulary)
        if self.beams == 1:
            decoded = decode_greedily(*args, self.max_tokens)
        else:
            decoded = decode_by_beam(*args, self.beams, self.max_tokens)
        tokens = decoded.tokens[:, None]
        return Texts(
            tokens=tokens,
            confidence=jnp.exp(decoded.logprobs[:, None]),
            fixed_at=jnp.broadcast_to(1 + jnp.arange(self.max_tokens), tokens.shape),
            steps=jnp.minimum((tokens != self.vocabulary.end).sum(-1) + 1, self.max_tokens),
            language=decoded.language,
            no_speech=decoded.no_speech,
        )


@dataclass(frozen=True)
class Exact:
    """A denoiser drafts, Whisper's decoder verifies: the decoder's greedy text in fewer steps."""

    vocabulary: Vocabulary
    branches: Branches = TREE
    max_tokens: int = 224

    def __call__(
        self,
        model: tuple[Decoder, DenoiserDrafter],
        audio: AudioStates,
        prompt: jax.Array,
        draws: Draws,
        seconds: int,
    ) -> Texts:
        """Write a batch's texts.

        Args:
            model: the decoder and what drafts for it.
            audio: [batch, positions, width].
            prompt: [batch, p] int32, see `read_prompt`.
            seconds: of audio, at most.
        """
        decoder, drafter = model
        drafter = replace(drafter, length=canvas_for(seconds))
        verified = decode_exactly(
            decoder, drafter, audio, prompt, self.vocabulary, self.branches, self.max_tokens
        )
        decoded = verified.decoded
        return Texts(
            tokens=decoded.tokens[:, None],
            confidence=jnp.exp(decoded.logprobs[:, None]),
            # The prompt's pass, which names the first token, counts as Whisper's first step does.
            fixed_at=verified.round_of[:, None] + 1,
            steps=verified.rounds[:, None] + 1,
            language=decoded.language,
            no_speech=decoded.no_speech,
        )


@dataclass(frozen=True)
class Diffusion:
    """A denoiser: several tokens a step."""

    settings: DenoisingSettings
    stretch: int = 12
    """Positions that are read at once by rules that write nearly from left to right."""

    def __call__(
        self,
        model: Denoiser,
        audio: AudioStates,
        prompt: jax.Array,
        draws: Draws,
        seconds: int,
    ) -> Texts:
        """Write a batch's texts.

        Args:
            model: what denoises.
            audio: [batch, positions, width].
            prompt: [batch, p] int32, in the denoiser's tokens.
            draws: [batch].
            seconds: of audio, at most.
        """
        length, batch = canvas_for(seconds), len(prompt)
        rule = self.settings.rule
        # Stretches leave masked what a rule with too few steps doesn't reach.
        if model.warm and rule.stops_early and rule.steps >= length:
            found = denoise_by_stretches(
                model, audio, prompt, draws, length, self.stretch, self.settings
            )
        else:
            given = jnp.full((batch, length), FREE)
            found = denoise(model, audio, prompt, given, draws, self.settings)
        return Texts(
            found.tokens,
            found.confidence,
            found.fixed_at,
            found.steps,
            language=prompt[:, 1] if prompt.shape[1] > 2 else jnp.full(batch, -1),
            no_speech=jnp.full(batch, jnp.nan),
        )


Decode = Autoregressive | Exact | Diffusion
"""How a batch's states become texts; static, so part of a compiled program's key."""


def candidates_of(decode: Decode) -> int:
    """Texts that a decoder writes for each window."""
    return decode.settings.candidates if isinstance(decode, Diffusion) else 1


def with_candidates(decode: Decode, candidates: int) -> Decode:
    """The same decoder for another number of them."""
    if not isinstance(decode, Diffusion):
        return decode
    return replace(decode, settings=replace(decode.settings, candidates=candidates))


def joined(texts: Texts, windows: int, parts: int) -> Texts:
    """NumPy results of which each window's candidates stand in several rows, a row a window."""

    def join(rows: np.ndarray) -> np.ndarray:
        own = rows[: windows * parts]
        return own[::parts] if own.ndim == 1 else own.reshape(windows, -1, *own.shape[2:])

    return jax.tree.map(join, texts)
