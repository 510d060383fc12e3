"""Put together what ships: an encoder, a trained denoiser and a CTC head in one small bundle.

python -m tools.ship_bundle tiny.en OUT --denoiser BUNDLE --head runs/tiny_en_ctc/bundle

All weights are stored in eight bits. The denoiser gets the whole of Whisper's vocabulary: what it
adds to Whisper's decoder knows nothing of tokens, so any of them can be written.
"""

from dataclasses import replace
from pathlib import Path

import tyro

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import run
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.denoiser import on_decoder
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.export import export_bundle


def ship(
    whisper: tyro.conf.Positional[str],
    out: tyro.conf.Positional[Path],
    denoiser: str,
    head: str | None = None,
) -> int:
    """Write a bundle; one that is there is replaced.

    Args:
        whisper: Name or directory of the Whisper that both were trained on.
        out: Directory to write.
        denoiser: Name or directory of a bundle with a warm denoiser.
        head: Directory of a bundle with a CTC head.
    """
    whole = Bundle.open(find_bundle(whisper, whole=True))
    trained = Bundle.open(find_bundle(denoiser))
    if (config := trained.config.denoiser) is None:
        raise WhisfusionError(f"{denoiser}: has no denoiser")
    vocabulary = whole.config.model.vocabulary
    wide = on_decoder(trained.load_denoiser()[0], whole.load_decoder())
    drafts = None
    if head is not None:
        opened = Bundle.open(find_bundle(head))
        if opened.config.ctc is None:
            raise WhisfusionError(f"{head}: has no CTC head")
        drafts = opened.load_ctc(), opened.config.ctc
    made = export_bundle(
        whole,
        wide,
        replace(config, vocabulary=vocabulary),
        Shortlist.whole(vocabulary, whole.tokenizer),
        out,
        drafts,
    )
    print(made.path)
    return 0


if __name__ == "__main__":
    run(lambda: tyro.cli(ship))
