"""Score a bundle on a test set: error rates, speed, the worst utterances, as tables and JSON.

python eval.py --bundle tiny.en --manifest set/manifest.jsonl --json report.json
"""

from pathlib import Path

import tyro
from rich.console import Console

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs, progress_bar, run
from whisfusion_jax.evaluation.manifest import read_manifest
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.transcription.transcriber import Transcriber


def evaluate(
    manifest: Path,
    bundle: str = "tiny.en",
    language: str | None = None,
    beams: int = 1,
    batch_size: int = 8,
    json: Path | None = None,
    worst: int = 10,
) -> int:
    """Score a bundle on a test set.

    Args:
        manifest: JSON lines, each with audio (a path beside the manifest) and text, and perhaps
            language and speaker.
        bundle: A bundle's directory, or published weights by name.
        language: Spoken language; without it a multilingual model names it.
        beams: Texts that are kept at each step; 1 takes the likeliest token.
        batch_size: The most windows that are recognised at once.
        json: Write the report here as well.
        worst: How many of the worst utterances to show.
    """
    utterances = read_manifest(manifest)
    keep_compiled_programs()
    transcriber = Transcriber(
        Bundle.open(find_bundle(bundle)), language=language, beams=beams, batch_size=batch_size
    )
    with progress_bar() as progress:
        transcripts = progress.track(
            transcriber.transcribe_many(utterance.audio for utterance in utterances),
            total=len(utterances),
            description="transcribing",
        )
        report = make_report(
            utterances, transcripts, lambda: transcriber.recogniser.compile_seconds
        )
    report.print(Console(), worst)
    if json is not None:
        aside = json.with_name(f".{json.name}.partial")
        aside.write_text(report.to_json() + "\n", encoding="utf-8")
        aside.rename(json)
    return 0


if __name__ == "__main__":
    run(lambda: tyro.cli(evaluate))
