"""How a training run is doing, on a set that it isn't trained on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.transcription.transcriber import Transcriber


def dev_score(dev: Path | None) -> Callable[[Bundle, Bundle], tuple[float, float]] | None:
    """How to score a run on a manifest's recordings; None without one.

    Raises:
        WhisfusionError: the manifest can't be read.
    """
    return partial(_score, read_manifest(dev)) if dev else None


def _score(utterances: Sequence[Utterance], made: Bundle, whisper: Bundle) -> tuple[float, float]:
    """Word error rate and mean steps of what a run has made.

    Args:
        made: a denoiser's bundle; or a CTC head alone, which drafts for its Whisper.
        whisper: what it was trained on.
    """
    if made.config.denoiser:
        transcriber = Transcriber(made)
    else:
        transcriber = Transcriber(whisper, decoder="exact", drafts=made, stretch=7, batch_size=1)
    found = transcriber.transcribe_many([each.audio for each in utterances])
    summary = make_report(utterances, found).summary
    return summary["wer"], summary["steps"]
