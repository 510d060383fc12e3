"""The decoder that a user asks for, out of a bundle: its weights, and how it writes."""

from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, ParakeetConfig, TokenRules, WhisperConfig
from whisfusion_jax.decoding.denoising import DenoisingSettings
from whisfusion_jax.decoding.unmasking import PositionBiased, Repair, Rule, TopN, UnmaskingRule
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import BundleError, WhisfusionError
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import Denoiser, on_decoder, untrained_denoiser
from whisfusion_jax.parallel.mesh import replicated
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.transcription.alignment import Heads
from whisfusion_jax.transcription.decoders import (
    Autoregressive,
    Decode,
    DecoderName,
    Denoisers,
    Diffusion,
    Exact,
    Spelled,
)

STRETCH = 12
"""Positions that a pass reads: of what masks write more are seldom all right."""
REPAIRED = 24
"""Of a draft that each pass repairs: more save no passes (docs/results.md)."""
_STRETCH_ON_CPU = 5
"""There each position costs, and of five matrices in tiles are read fastest (models/tiles.py)."""
SURE = 0.5
"""How probable a drafted token must be, for masks not to write instead (docs/results.md)."""
FEW = 4
"""Steps of a denoiser that sees all and mends what is visible."""
_ANY = 448
"""Passes for any text: a translation has nothing of the draft."""
_ROWS_ON_CPU = 2
"""The largest batch in which a CPU is faster by several tokens a pass than by one: a step for many
rows reads the weights once, too (docs/results.md)."""


@dataclass(frozen=True)
class Choice:
    """What a Transcriber runs."""

    models: Any
    """As `decode` takes them."""
    decode: Decode
    reader: Decoder | Denoiser | None
    """Whose cross-attention reads what is heard, if any does."""
    head: CtcHead | None
    """That drafts."""
    shortlist: Shortlist | None
    """By which `decode` counts tokens; None is as Whisper does."""


@dataclass(frozen=True)
class Wishes:
    """What a user says of a decoder."""

    decoder: DecoderName | None = None
    beams: int = 1
    rule: Rule | None = None
    candidates: int = 1
    temperature: float = 0.0
    stretch: int | None = None
    sure: float | None = None
    translates: bool = False


def _rule_for(
    trained: DenoiserConfig | None, head: CtcHead | None, wished: Rule | None
) -> UnmaskingRule:
    """Of masks; one that was made to see all, or sees all of a head's draft, writes all anew."""
    anew = trained is not None and (trained.both_ways or (trained.sees_all and head is not None))
    if wished is None or isinstance(wished, Repair):
        return TopN(FEW, rewrites=True) if anew else PositionBiased(1.0 if trained else 0.0)
    if anew and isinstance(wished, TopN):
        return replace(wished, rewrites=True)
    return wished


def _check_repair(wishes: Wishes, trained: DenoiserConfig | None, head: CtcHead | None) -> None:
    """Refuse to repair what isn't there, or by what reads otherwise than Whisper."""
    if wishes.decoder != "diffusion" or wishes.candidates > 1:
        raise WhisfusionError("repair: is of diffusion with one candidate")
    if head is None:
        raise WhisfusionError("repair: this bundle has no CTC head, whose draft it would mend")
    if trained is not None and trained.sees_all:
        raise WhisfusionError("repair: this denoiser no longer reads as Whisper does")


def choose(
    bundle: Bundle,
    drafts: Bundle,
    wishes: Wishes,
    dtype: DTypeLike,
    mesh: Mesh,
    platform: str | None = None,
) -> Choice:
    """Load a decoder.

    Args:
        bundle: whose text is written.
        drafts: whose denoiser, or head, writes ahead; perhaps the same.
        platform: that its programs are compiled for, such as "tpu"; None is that at hand.

    Raises:
        WhisfusionError: the bundles have not what the decoder needs.
    """
    config, tokenizer = bundle.config, bundle.tokenizer
    hears = config.model.multilingual and config.model.hears_language
    languages = tuple(sorted(tokenizer.languages.values())) if hears else ()
    before = tokenizer.before
    vocabulary = Vocabulary(config.rules, tokenizer.end, tokenizer.no_speech, languages, before)
    on_cpu = (platform or jax.default_backend()) == "cpu" and mesh.size == 1

    if wishes.decoder == "ar":
        decoder = bundle.load_decoder(dtype, mesh)
        return Choice(decoder, Autoregressive(vocabulary, wishes.beams), decoder, None, None)
    if wishes.decoder == "ctc":
        merges = jax.device_put(Merges.of(tokenizer), replicated(mesh))
        return Choice(merges, Spelled(vocabulary), None, drafts.load_ctc(dtype, mesh), None)
    trained = drafts.config.denoiser
    if wishes.decoder == "exact" and (drafts.config.ctc or (trained and trained.both_ways)):
        # Whisper alone repairs what a head drafts; nor would weights that see all be Whisper's.
        trained = None
    head: CtcHead | None = None
    merges = None
    # A head counts tokens as Whisper does, a denoiser perhaps by a shortlist.
    whole = trained is None or trained.vocabulary == config.model.vocabulary
    if drafts.config.ctc and (whole or wishes.decoder == "exact"):
        merges = jax.device_put(Merges.of(tokenizer), replicated(mesh))
        head = drafts.load_ctc(dtype, mesh)
    longest = REPAIRED if head and wishes.decoder == "exact" else STRETCH
    stretch = wishes.stretch or (_STRETCH_ON_CPU if on_cpu and head else longest)
    # Masks that were never trained know less than any draft.
    sure = (wishes.sure if wishes.sure is not None else SURE) if trained else 0.0
    if wishes.decoder == "exact" and head is not None and wishes.rule is not None:
        raise WhisfusionError("rule: exact repairs what the head hears, and has no masks")
    rule, repair = _rule_for(trained, head, wishes.rule), None
    if isinstance(wishes.rule, Repair):
        _check_repair(wishes, trained, head)
        repair = wishes.rule
    elif wishes.decoder == "diffusion" and head and not (trained or wishes.rule):
        # Masks that were never trained know less than any draft.
        repair = None if wishes.candidates > 1 else Repair(_ANY if wishes.translates else None)
    if repair is not None and repair.steps is None:
        stretch = wishes.stretch or (STRETCH if on_cpu else REPAIRED)
    if wishes.decoder == "diffusion" and trained:
        denoiser, listed = drafts.load_denoiser(dtype, mesh)
        if on_cpu:
            denoiser.read_in_tiles()
        never = TokenRules((*listed.those_of(config.rules.suppress), *listed.special))
        # Who counts as Whisper does hears languages as it does.
        shortlist = None if whole and languages else listed
        own = Vocabulary(never, listed.end, before=before)
        if shortlist is None:
            own = replace(vocabulary, rules=never)
        settings = DenoisingSettings(own, rule, wishes.candidates, wishes.temperature)
        writes = Diffusion(settings, stretch, repair, denoiser.both_ways)
        return Choice(Denoisers(denoiser, merges, sure), writes, denoiser, head, shortlist)
    if not trained and head is None:
        raise BundleError(f"{drafts.path}: has no denoiser, and no head that drafts")
    decoder, model = bundle.load_decoder(dtype, mesh), config.model
    assert not isinstance(model, ParakeetConfig)  # or it would have no decoder
    denoiser = (
        drafts.load_denoiser(dtype, mesh)[0]
        if trained
        else untrained_denoiser(DenoiserConfig.of_decoder(model, rank=0), dtype)
    )
    denoisers = Denoisers(on_decoder(denoiser, decoder), merges, sure)
    if on_cpu:
        denoisers.denoiser.read_in_tiles()
    if wishes.decoder == "diffusion":
        settings = DenoisingSettings(vocabulary, rule, wishes.candidates, wishes.temperature)
        return Choice(denoisers, Diffusion(settings, stretch, repair), decoder, head, None)
    if not rule.stops_early:
        raise WhisfusionError("exact: a rule that asks again for what was written can't be held to")
    exactly = DenoisingSettings(vocabulary, replace(rule, revise=1.0))  # type: ignore[type-var]
    # Who names a stretch wants it.
    most_rows = _ROWS_ON_CPU if on_cpu and wishes.stretch is None else None
    exact = Exact(exactly, stretch, most_rows)
    return Choice((decoder, denoisers), exact, decoder, head, None)


def usual_decoder(bundle: Bundle) -> DecoderName:
    """The decoder of who names none."""
    if bundle.config.denoiser:
        return "diffusion"
    return "ctc" if bundle.config.ctc and not bundle.has_decoder else "ar"


def alignment_heads(bundle: Bundle) -> Heads:
    """Those that are known to follow the audio, else all of the upper half, as OpenAI's do it."""
    model, denoiser = bundle.config.model, bundle.config.denoiser
    if denoiser and not denoiser.warm:
        raise WhisfusionError("word times are read off Whisper's decoder, which this bundle hasn't")
    if not isinstance(model, WhisperConfig):
        raise WhisfusionError("word times: no head of this model is known to follow the audio")
    layers = range(model.decoder_layers // 2, model.decoder_layers)
    every = tuple((layer, head) for layer in layers for head in range(model.heads))
    return bundle.config.alignment_heads or every
