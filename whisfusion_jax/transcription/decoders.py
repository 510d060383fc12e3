"""The decoders that a Transcriber can use, each from what is heard to texts."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.autoregressive import Reader, Start
from whisfusion_jax.decoding.beam import decode_by_beam
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.denoising import FREE, Denoised, DenoisingSettings, Draws, denoise
from whisfusion_jax.decoding.drafts import Draft, draft_of
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.repairing import Repairs, repair
from whisfusion_jax.decoding.stretches import Stretches, denoise_by_stretches
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.decoder import CrossCache, Decoder
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.transcription.alignment import Heads, beginnings
from whisfusion_jax.transcription.hearing import LENGTHS, Heard

DecoderName = Literal["diffusion", "exact", "ar", "ctc"]

EARLIER = 201
"""Tokens of an earlier text in front of a prompt, at most: the decoder's positions must hold these
and the longest text."""


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
    """[batch, candidates] int32: passes of the decoder until the text was there."""
    language: jax.Array
    """[batch] int32: the language token, given or heard; -1 if there is none."""
    no_speech: jax.Array
    """[batch] float32: Whisper's probability that nobody speaks; NaN if it isn't asked."""
    begins: jax.Array | None = None
    """[batch, candidates, n + 1] int32: the frame in which each token begins, and at its length
    the text's end; None if it isn't asked."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Asked:
    """What is asked of a decoder for each row of a batch."""

    prompt: jax.Array
    """[batch, p] int32, in the decoder's tokens, see `read_prompt`."""
    draws: Draws
    wanted: jax.Array
    """[batch] bool: False for rows that fill the batch up."""
    given: jax.Array | None = None
    """[batch, n] int32: what stands in a canvas of n tokens, and FREE, for diffusion; None is
    nothing."""
    standing: jax.Array | None = None
    """Likewise, where all that stands is the text's beginning."""


@dataclass(frozen=True)
class Autoregressive:
    """Whisper's own decoder: one token a step."""

    vocabulary: Vocabulary
    beams: int = 1
    max_tokens: int = 224

    def reader(self, model: Decoder) -> Decoder:
        """What reads a text as Whisper does."""
        return model

    def __call__(self, model: Reader, heard: Heard, asked: Asked, seconds: int) -> Texts:
        """Write a batch's texts.

        Args:
            model: Whisper's; beams are read by its decoder alone.
            seconds: of audio, at most.
        """
        args = (heard.cross, asked.prompt, self.vocabulary)
        if self.beams == 1:
            decoded = decode_greedily(model, *args, self.max_tokens, asked.wanted)
        else:
            assert isinstance(model, Decoder)
            decoded = decode_by_beam(model, *args, self.beams, self.max_tokens, asked.wanted)
        tokens = decoded.tokens[:, None]
        return Texts(
            tokens=tokens,
            confidence=jnp.exp(decoded.logprobs[:, None]),
            fixed_at=jnp.broadcast_to(1 + jnp.arange(self.max_tokens), tokens.shape),
            steps=jnp.minimum((tokens != self.vocabulary.end).sum(-1) + 1, self.max_tokens),
            language=decoded.language,
            no_speech=decoded.no_speech,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Denoisers:
    """What denoises, and what may draft for it."""

    denoiser: Denoiser
    merges: Merges | None = None
    """By which what a CTC head hears becomes a draft."""
    sure: float = field(default=0.0, metadata={"static": True})
    """How probable a token of a draft must be; where it isn't, masks write ahead."""

    def draft(self, heard: Heard, seconds: int, end: int) -> jax.Array | None:
        """The head's text, if there is one: [batch, n] int32."""
        if heard.pieces is None or self.merges is None:
            return None
        tokens, sure = self.merges(*heard.pieces)
        return draft_of(tokens, sure >= self.sure, canvas_for(seconds), end)


@dataclass(frozen=True)
class Exact:
    """A denoiser drafts, Whisper verifies in the same pass: the decoder's greedy text, sooner."""

    settings: DenoisingSettings
    """By which a token stays only if it is Whisper's likeliest."""
    stretch: int
    """Positions that are read at once."""
    most_rows: int | None = None
    """For larger batches one token a pass is faster, and the text is the same; None: for none."""
    max_tokens: int = 224

    @property
    def vocabulary(self) -> Vocabulary:
        """As Autoregressive's, like `reader`."""
        return self.settings.vocabulary

    def reader(self, model: tuple[Decoder, Denoisers]) -> Decoder:
        return model[0]

    def drafts(self, rows: int) -> bool:
        """Whether batches of so many rows are written by drafts."""
        return self.most_rows is None or rows <= self.most_rows

    def __call__(
        self, model: tuple[Decoder, Denoisers], heard: Heard, asked: Asked, seconds: int
    ) -> Texts:
        """Write a batch's texts.

        Args:
            model: the decoder, and a denoiser on its weights.
            seconds: of audio, at most.
        """
        _, denoisers = model
        if asked.standing is None and not self.drafts(len(asked.wanted)):
            greedily = Autoregressive(self.settings.vocabulary, max_tokens=self.max_tokens)
            # The denoiser has Whisper's weights, and on a CPU in tiles.
            return greedily(denoisers.denoiser, heard, asked, seconds)
        if heard.pieces is not None:
            longest = self.max_tokens
            repairs = Repairs(self.vocabulary, longest, self.stretch, steps=longest)
            return _repaired(denoisers, heard, asked, repairs)
        how = Stretches(self.settings, self.max_tokens, self.stretch, mended=False)
        return _by_stretches(denoisers, heard, asked, seconds, how)


@dataclass(frozen=True)
class Diffusion:
    """A denoiser: several tokens a step."""

    settings: DenoisingSettings
    stretch: int
    """Positions that are read at once by rules that write nearly from left to right."""
    repair: Repair | None = None
    """How the head's draft is repaired, instead of anything being unmasked."""
    own_lengths: bool = False
    """A canvas of each bucket's own length: to a denoiser that sees its masks it is a hint."""

    @property
    def vocabulary(self) -> Vocabulary:
        """As Autoregressive's, like `reader`."""
        return self.settings.vocabulary

    def reader(self, model: Denoisers) -> Denoiser:
        return model.denoiser

    def __call__(self, model: Denoisers, heard: Heard, asked: Asked, seconds: int) -> Texts:
        """Write a batch's texts.

        Args:
            model: what denoises.
            seconds: of audio, at most.
        """
        length, batch = canvas_for(seconds), len(asked.wanted)
        if self.repair is not None:
            # Who has passes for most texts needs to read no more at once than is likely to stand.
            few = self.repair.steps is not None and self.repair.steps < length
            size = length if few else self.stretch
            repairs = Repairs(self.vocabulary, length, size, self.repair.steps)
            return _repaired(model, heard, asked, repairs)
        rule, given = self.settings.rule, asked.given
        # Stretches end when the text does, whatever number of steps a rule has.
        by_stretches = not model.denoiser.both_ways and rule.stops_early and rule.steps >= length
        if given is None and by_stretches:
            how = Stretches(self.settings, length, self.stretch)
            return _by_stretches(model, heard, asked, seconds, how)
        if given is None:
            given = asked.standing
        if given is None:
            given = jnp.full((batch, length), FREE)
        end = self.vocabulary.end
        given = jnp.where(asked.wanted[:, None], given, end)
        draft = model.draft(heard, seconds, end) if rule.rewrites else None
        if draft is not None:
            draft = jnp.where(jnp.cumsum(draft == end, axis=1) > 0, end, draft)
        found = denoise(
            model.denoiser, heard.cross, asked.prompt, given, asked.draws, self.settings, draft
        )
        language = self.vocabulary.language_of(asked.prompt)
        return _texts(found, Start((), asked.prompt, language, jnp.full(batch, jnp.nan)))


@dataclass(frozen=True)
class Spelled:
    """What a CTC head hears, as it is: no decoder, and no pass of one."""

    vocabulary: Vocabulary

    def reader(self, model: Merges) -> None:
        """There is none."""

    def __call__(self, model: Merges, heard: Heard, asked: Asked, seconds: int) -> Texts:
        """Write a batch's texts.

        Args:
            model: makes tokens of the head's pieces.
            seconds: of audio, at most.
        """
        assert heard.pieces is not None
        batch, moments = heard.pieces[0].shape
        end = self.vocabulary.end
        draft = Draft.of(*model(*heard.pieces), moments + 1, end)
        tokens = jnp.where(asked.wanted[:, None], draft.tokens, end)[:, None]
        return Texts(
            tokens=tokens,
            confidence=draft.sure[:, None],
            fixed_at=jnp.zeros(tokens.shape, jnp.int32),
            steps=jnp.zeros((batch, 1), jnp.int32),
            language=self.vocabulary.language_of(asked.prompt),
            no_speech=jnp.full(batch, jnp.nan),
        )


def _repaired(model: Denoisers, heard: Heard, asked: Asked, how: Repairs) -> Texts:
    assert model.merges is not None  # or there was no head to read
    assert heard.pieces is not None
    draft = Draft.of(*model.merges(*heard.pieces), how.length, how.vocabulary.end)
    found, said = repair(
        model.denoiser, heard.cross, asked.prompt, draft, how, asked.wanted, asked.standing
    )
    return _texts(found, said)


def _by_stretches(
    model: Denoisers, heard: Heard, asked: Asked, seconds: int, how: Stretches
) -> Texts:
    draft = model.draft(heard, seconds, how.settings.vocabulary.end)
    found, said = denoise_by_stretches(
        model.denoiser, heard.cross, asked.prompt, asked.draws, how, draft, asked.wanted,
        asked.standing,
    )  # fmt: skip
    return _texts(found, said)


def _texts(found: Denoised, said: Start) -> Texts:
    return Texts(
        found.tokens,
        found.confidence,
        found.fixed_at,
        found.steps,
        language=said.language,
        no_speech=said.no_speech,
    )


Decode = Autoregressive | Exact | Diffusion | Spelled
"""How a batch's states become texts; static, so part of a compiled program's key."""


def timed(
    texts: Texts,
    reader: Decoder | Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    frames: jax.Array,
    heads: Heads,
    seconds: int,
    vocabulary: Vocabulary,
) -> Texts:
    """Texts with the frames in which their tokens begin.

    Args:
        prompt: [batch, p] int32, its language perhaps not named.
        frames: [batch] int32: of the audio, without padding.
        seconds: of audio, at most: texts longer than any that is spoken in them end at its end.
        vocabulary: of the texts and the prompt.
    """
    batch, candidates, n = texts.tokens.shape
    read = min(n, canvas_for(seconds))
    end = vocabulary.end
    if prompt.shape[1] - vocabulary.before > 2:
        prompt = prompt.at[:, vocabulary.before + 1].set(texts.language)
    cross, prompt, frames = jax.tree.map(
        partial(jnp.repeat, repeats=candidates, axis=0), (cross, prompt, frames)
    )
    tokens = texts.tokens[..., :read].reshape(-1, read)
    lengths = jnp.argmax(jnp.pad(tokens, ((0, 0), (0, 1)), constant_values=end) == end, axis=1)
    begins = beginnings(reader, cross, prompt, tokens, lengths, frames, heads)
    behind = jnp.broadcast_to(frames[:, None], (len(frames), n - read))
    begins = jnp.concatenate([begins, behind], axis=1)
    return replace(texts, begins=begins.reshape(batch, candidates, n + 1))


def candidates_of(decode: Decode) -> int:
    """Texts that a decoder writes for each window."""
    return decode.settings.candidates if isinstance(decode, Diffusion) else 1


def writes_on(decode: Decode) -> bool:
    """Whether a text may be written on from words that stand."""
    return isinstance(decode, Exact | Diffusion)


def writes_around(decode: Decode) -> bool:
    """Whether words may stand anywhere, for masks to write what is around them."""
    return isinstance(decode, Diffusion) and decode.repair is None


def has_use_for_head(decode: Decode, rows: int, stand: bool) -> bool:
    """Whether a CTC head's pieces are read in batches of so many rows.

    Args:
        stand: words may stand.
    """
    if isinstance(decode, Exact):
        return stand or decode.drafts(rows)
    if isinstance(decode, Spelled):
        return True
    return isinstance(decode, Diffusion) and decode.settings.candidates == 1


def length_for(decode: Decode, bucket: int) -> int:
    """Seconds of audio that a bucket's windows are padded to, for a decoder to read."""
    if isinstance(decode, Diffusion) and decode.own_lengths:
        return bucket
    return next(length for length in LENGTHS if length >= bucket)


def with_candidates(decode: Decode, candidates: int) -> Decode:
    """The same decoder for another number of them."""
    if not isinstance(decode, Diffusion):
        return decode
    return replace(decode, settings=replace(decode.settings, candidates=candidates))


def with_earlier(decode: Decode, tokens: int) -> Decode:
    """The same decoder for prompts that have so many of an earlier text in front."""
    vocabulary = replace(decode.vocabulary, before=tokens)
    if isinstance(decode, Exact | Diffusion):
        return replace(decode, settings=replace(decode.settings, vocabulary=vocabulary))
    return replace(decode, vocabulary=vocabulary)


def joined(texts: Texts, windows: int, parts: int) -> Texts:
    """NumPy results of which each window's candidates stand in several rows, a row a window."""

    def join(rows: np.ndarray) -> np.ndarray:
        own = rows[: windows * parts]
        return own[::parts] if own.ndim == 1 else own.reshape(windows, -1, *own.shape[2:])

    return jax.tree.map(join, texts)
