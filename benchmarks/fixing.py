"""What known words are worth: one misheard word of each utterance is said, and the rest compared.

python -m benchmarks.fixing --manifest SET/manifest.jsonl
"""

from collections.abc import Iterator
from pathlib import Path

import jiwer
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import SAMPLES, load_clips
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.text.normalise import Normaliser, normaliser_for
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript

_LETTERS = 4
"""Of the words that are said: shorter ones are no names."""


def main(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    decoder: DecoderName = "diffusion",
    worst: int = 5,
) -> None:
    """Count errors without, and with, one known word an utterance.

    Args:
        manifest: Utterances with their texts, in English.
        bundle: With a denoiser, or a head.
        decoder: That writes.
        worst: How many texts of those that became worse to show.
    """
    keep_compiled_programs()
    normal = normaliser_for("en")
    plain = Transcriber.from_bundle(bundle, decoder=decoder)
    before = after = known = 0
    table = Table("without", "with", title="where more changed for the worse")
    for utterance, samples in load_clips(manifest):
        text = normal(utterance.text)
        found = plain.transcribe(samples)
        fix = next(_misheard(text, found, normal), None)
        if fix is None:
            continue
        fixed = Transcriber.from_bundle(bundle, decoder=decoder, fix=[fix]).transcribe(samples)
        errors = [_errors(text, normal(each.text)) for each in (found, fixed)]
        before, after, known = before + errors[0], after + errors[1], known + 1
        if errors[1] >= errors[0] and table.row_count < worst:
            table.add_row(found.text, fixed.text)
    print(f"{known} known words: {before} errors before, {after} after")
    Console().print(table)


def _misheard(text: str, found: Transcript, normal: Normaliser) -> Iterator[str]:
    """HEARD=KNOWN for words that were written once, and otherwise than they are said."""
    said, written = text.split(), normal(found.text).split()
    for chunk in jiwer.process_words(text, " ".join(written)).alignments[0] if written else ():
        known, heard = said[chunk.ref_start_idx :][:1], written[chunk.hyp_start_idx :][:1]
        alone = chunk.ref_end_idx - chunk.ref_start_idx == 1
        if chunk.type != "substitute" or not alone or written.count(heard[0]) > 1:
            continue
        raw = [word.text.strip(".,;?!'\"") for word in found.words if normal(word.text) == heard[0]]
        if len(known[0]) >= _LETTERS and known[0].isalpha() and len(raw) == 1 and raw[0].isalpha():
            yield f"{raw[0]}={known[0].capitalize() if raw[0].istitle() else known[0]}"


def _errors(text: str, written: str) -> int:
    found = jiwer.process_words(text, written)
    return found.substitutions + found.deletions + found.insertions


if __name__ == "__main__":
    tyro.cli(main)
