"""Score a bundle on a test set: error rates, steps, speed, the worst utterances.

python eval.py --manifest set/manifest.jsonl --json report.json
python eval.py --corpus LibriSpeech --split test-clean
python eval.py --data data/synthetic_speech/en_0/1.0.0 --split test
python eval.py --manifest set/manifest.jsonl --curve curve.png
python eval.py --wordless 100
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import Decoding, keep_compiled_programs, run
from whisfusion_jax.data.corpora import read_corpus
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.data.sources import Prepared, Wordless
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.report import Report, make_report
from whisfusion_jax.evaluation.steps import Way, draw_curve, measure_curve, print_curve
from whisfusion_jax.hub import find_bundle, find_drafts
from whisfusion_jax.progress import progress_bar
from whisfusion_jax.transcription.transcriber import Source, Transcriber


def evaluate(
    decoding: Decoding,
    manifest: Path | None = None,
    corpus: Path | None = None,
    data: Path | None = None,
    split: str | None = None,
    wordless: int = 0,
    curve: Path | None = None,
    json: Path | None = None,
    worst: int = 10,
) -> int:
    """Score a bundle on a test set.

    Args:
        manifest: JSON lines, each with audio (a path beside the manifest) and text, and perhaps
            language, speaker and source.
        corpus: Instead, a public set's directory as unpacked: LibriSpeech, MLS, Common Voice,
            FLEURS, VoxPopuli, AISHELL-1, ReazonSpeech, Zeroth or VCTK.
        data: Instead, a directory of a prepared TFDS set with audio and text.
        split: Of a corpus, without it all; of a prepared set, without it test.
        wordless: Instead, so many clips of silence, noise and tones: in how many is no text?
        curve: Measure errors against steps over many rules and all decoders, and draw them here
            (.png, .svg).
        json: Write the report here as well.
        worst: How many of the worst utterances to show.
    """
    keep_compiled_programs()
    if wordless:
        return count_empty(decoding.transcriber(), wordless)
    utterances, sources = test_set(manifest, corpus, data, split)
    if curve is not None:
        points = measure_curve(
            lambda way: score_all(writer(decoding, way), utterances, sources),
            drafts=repairs(decoding),
        )
        print_curve(points, Console())
        draw_curve(points, curve)
        return 0
    report = score_all(decoding.transcriber(), utterances, sources)
    report.print(Console(), worst)
    if json is not None:
        aside = json.with_name(f".{json.name}.partial")
        aside.write_text(report.to_json() + "\n", encoding="utf-8")
        aside.rename(json)
    return 0


def test_set(
    manifest: Path | None, corpus: Path | None, data: Path | None, split: str | None
) -> tuple[Sequence[Utterance], Sequence[Source]]:
    """Utterances, and what to transcribe for each.

    Raises:
        WhisfusionError: none of them is named, or several are.
    """
    if sum(each is not None for each in (manifest, corpus, data)) != 1:
        raise WhisfusionError("name a test set: --manifest, --corpus, --data or --wordless")
    if data is None:
        utterances = read_corpus(corpus, split) if corpus else read_manifest(manifest or Path())
        return utterances, [utterance.audio for utterance in utterances]
    prepared = Prepared(data, split or "test")
    examples = [prepared[number] for number in range(len(prepared))]
    return (
        [Utterance(f"{data} {n}", each.text, each.language) for n, each in enumerate(examples)],
        [each.samples for each in examples],
    )


def repairs(decoding: Decoding) -> bool:
    """Whether a head drafts, and what mends its draft reads as Whisper does."""
    config = Bundle.open(find_drafts(decoding.bundle) or find_bundle(decoding.bundle)).config
    return config.ctc is not None and not (config.denoiser and config.denoiser.sees_all)


def writer(decoding: Decoding, way: Way) -> Transcriber:
    """By a decoder, or by diffusion with a rule."""
    if isinstance(way, str):
        return replace(decoding, decoder=way).transcriber()
    return replace(decoding, decoder="diffusion").transcriber(way)


def score_all(
    transcriber: Transcriber, utterances: Sequence[Utterance], sources: Sequence[Source]
) -> Report:
    """Transcribe and score."""
    with progress_bar() as progress:
        transcripts = progress.track(
            transcriber.transcribe_many(sources), total=len(sources), description="transcribing"
        )
        return make_report(utterances, transcripts, lambda: transcriber.recogniser.compile_seconds)


def count_empty(transcriber: Transcriber, count: int) -> int:
    """Show in how many clips without words no text is found, and the texts of the others."""
    # Training draws from other seeds.
    clips = [
        example.samples for example in map(Wordless(count, seed=12_345).__getitem__, range(count))
    ]
    texts = [transcriber.transcribe(clip).text for clip in clips]
    for number, text in enumerate(texts):
        if text:
            print(f"clip {number}: {text}")
    print(f"{sum(not text for text in texts)} of {count} clips without words have no text")
    return 0


if __name__ == "__main__":
    run(lambda: tyro.cli(evaluate))
