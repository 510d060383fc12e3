"""`transcribe` on short real clips, warm, by each decoder, beside faster-whisper.

python -m benchmarks.transcription --manifest SET/manifest.jsonl --bundle tiny.en
"""

import tempfile
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from benchmarks.common import (
    SAMPLES,
    alternate,
    faster_whisper_directory,
    load_clips,
    open_bundle,
    timing_table,
)
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.hub import find_drafts
from whisfusion_jax.transcription.transcriber import Transcriber


def main(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    shortest: float = 5,
    longest: float = 10,
    count: int = 10,
) -> None:
    """Time whole files: reading, features, encoder, decoding; one by one, and in batches.

    Args:
        manifest: The clips.
        bundle: Published weights by name; diffusion and exact are timed if something that drafts
            ships for them.
        shortest: Seconds that a clip must last.
        longest: Seconds that it may last.
        count: How many clips.
    """
    from faster_whisper import WhisperModel

    clips = load_clips(manifest, shortest, longest, count)
    files = [utterance.audio for utterance, _ in clips]
    seconds = sum(len(samples) for _, samples in clips) / 16_000
    opened = open_bundle(bundle)
    language = "en"
    ours = {"ar": Transcriber(opened, decoder="ar", language=language)}
    if shipped := find_drafts(bundle):
        drafts = Bundle.open(shipped)
        own = drafts if drafts.config.denoiser else opened
        ours["diffusion"] = Transcriber(own, decoder="diffusion", drafts=drafts, language=language)
        ours["exact"] = Transcriber(opened, decoder="exact", drafts=drafts, language=language)

    def one_by_one(transcriber: Transcriber) -> list[str]:
        return [transcriber.transcribe(file).text for file in files]

    def batched(transcriber: Transcriber) -> list[str]:
        return [result.text for result in transcriber.transcribe_many(files)]  # type: ignore[union-attr]

    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(opened, Path(folder)))
        theirs = {
            kind: WhisperModel(directory, device="cpu", compute_type=kind, cpu_threads=2)
            for kind in ("float32", "int8")
        }

    def faster_whisper(kind: str) -> list[str]:
        texts = []
        for file in files:
            segments, _ = theirs[kind].transcribe(
                file, language=language, beam_size=1, temperature=0, without_timestamps=True
            )
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    times = alternate(
        {
            **{f"ours, {name}, one by one": partial(one_by_one, t) for name, t in ours.items()},
            **{f"ours, {name}, batched": partial(batched, t) for name, t in ours.items()},
            "faster-whisper float32": partial(faster_whisper, "float32"),
            "faster-whisper int8": partial(faster_whisper, "int8"),
        }
    )
    title = f"{bundle}, {len(files)} clips of {shortest:g} to {longest:g} s"
    Console().print(timing_table(title, times, "ours, ar, batched", seconds))
    Console().print(timing_table(title, times, "ours, ar, one by one", seconds))
    for name, transcriber in ours.items():
        results = [transcriber.transcribe(file) for file in files]
        print(f"{name}: {sum(result.steps for result in results) / len(results):.1f} mean steps")


if __name__ == "__main__":
    tyro.cli(main)
