"""`transcribe` on short real clips, warm, beside faster-whisper on the same weights.

python -m benchmarks.transcription --manifest SET/manifest.jsonl --bundle tiny.en
"""

import tempfile
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
from whisfusion_jax.transcription.transcriber import Transcriber


def main(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    shortest: float = 3,
    longest: float = 8,
    count: int = 20,
) -> None:
    """Time whole files, one after the other: reading, features, encoder, greedy decoding.

    Args:
        manifest: The clips.
        bundle: A bundle's directory, or published weights by name.
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
    ours = Transcriber(opened, language=language)

    def one_by_one() -> list[str]:
        return [ours.transcribe(file).text for file in files]

    def batched() -> list[str]:
        return [result.text for result in ours.transcribe_many(files)]  # type: ignore[union-attr]

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
            "ours, one file at a time": one_by_one,
            "ours, batched": batched,
            "faster-whisper float32": lambda: faster_whisper("float32"),
            "faster-whisper int8": lambda: faster_whisper("int8"),
        }
    )
    title = f"{bundle}, {len(files)} clips of {shortest:g} to {longest:g} s, greedy"
    Console().print(timing_table(title, times, "faster-whisper float32", seconds))
    same = sum(a == b for a, b in zip(one_by_one(), faster_whisper("float32"), strict=True))
    print(f"same text as faster-whisper float32: {same} of {len(files)}")


if __name__ == "__main__":
    tyro.cli(main)
