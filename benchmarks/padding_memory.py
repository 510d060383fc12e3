"""Study of the padding memory's few knobs: same text as on 30 s, and error rate.

python -m benchmarks.padding_memory --manifest SET/manifest.jsonl --bundle tiny.en \
    --clips french 'clips/fr/*.ogg' espeak 'clips/espeak/*.wav'
"""

import glob
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks.common import SAMPLES, load_clips, open_bundle
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import BUCKETS
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.config import MemoryConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.evaluation.error_rates import NONE, word_errors
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.transcriber import Transcriber

DEFAULTS = MemoryConfig()


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    label: str
    clips: Sequence[np.ndarray]
    config: MemoryConfig = DEFAULTS
    buckets: tuple[int, ...] = BUCKETS


def settings(sources: dict[str, list[np.ndarray]]) -> list[Setting]:
    """Each knob turned by itself, from the defaults."""
    default = sources["default"]
    rows = [Setting("defaults: 6 clips of digits", default)]
    rows += [Setting(f"pool {p} frames", default, MemoryConfig(p)) for p in (1, 5, 25, 50)]
    rows += [Setting(f"{n} clips", default[:n]) for n in (1, 2, 4)]
    rows += [Setting(f"clips: {n}", clips) for n, clips in sources.items() if n != "default"]
    rows.append(Setting("clips: silence", [np.zeros(16_000, np.float32)]))
    rows += [
        Setting(f"smallest bucket {s} s", default, MemoryConfig(first_frame=50 * s), (s, *BUCKETS))
        for s in (3, 4, 5)
    ]
    rows.append(Setting("smallest bucket 10 s", default, MemoryConfig(first_frame=500)))
    rows += [
        Setting(f"loudness {loud}", default, MemoryConfig(loudness=loud))
        for loud in (0.5, 1.0, 2.0, None)
    ]
    return rows


def main(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    clips: dict[str, str] = {},  # noqa: B006 (tyro wants a plain default)
    only: str = "",
) -> None:
    """Transcribe a set under each setting.

    Args:
        manifest: The recordings and what is said.
        bundle: A bundle's directory, or published weights by name.
        clips: Further sources of clips to make memories from: name and file pattern.
        only: Settings whose label contains this.
    """
    keep_compiled_programs()
    sources = {"default": [read_audio(file) for file in sorted(CLIPS.glob("*.wav"))]}
    for name, pattern in clips.items():
        sources[name] = [read_audio(file) for file in sorted(glob.glob(pattern))[:6]]  # noqa: PTH207
    recordings = load_clips(manifest)
    references = [utterance.text for utterance, _ in recordings]
    samples = [samples for _, samples in recordings]
    opened = open_bundle(bundle)
    expected = transcribe(opened, samples, (30,))

    # Plain lines as they come: the study is long, and pastes into a Markdown table.
    print(f"| {bundle}, {len(samples)} recordings | same text | normalised | WER % |")
    print("|---|--:|--:|--:|")
    print(f"| 30 s, no memory | | | {wer(references, expected):.2f} |")
    for setting in settings(sources):
        if only not in setting.label:
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "bundle"
            shutil.copytree(str(opened.path), copy)
            made = add_memory(Bundle.open(copy), setting.clips, setting.config)
            texts = transcribe(made, samples, setting.buckets)
        normalise = normaliser_for("en")
        pairs = list(zip(texts, expected, strict=True))
        same = sum(a == b for a, b in pairs)
        normalised = sum(normalise(a) == normalise(b) for a, b in pairs)
        row = f"| {setting.label} | {same} | {normalised} | {wer(references, texts):.2f} |"
        print(row, flush=True)
        jax.clear_caches()  # each setting has programs of its own, and they fill the memory map


def transcribe(
    bundle: Bundle, samples: Sequence[np.ndarray], buckets: tuple[int, ...]
) -> list[str]:
    transcriber = Transcriber(bundle, language="en", buckets=buckets)
    return [result.text for result in transcriber.transcribe_many(samples)]  # type: ignore[union-attr]


def wer(references: Sequence[str], texts: Sequence[str]) -> float:
    """Pooled word error rate in percent."""
    normalise = normaliser_for("en")
    pairs = zip(references, texts, strict=True)
    return 100 * sum((word_errors(normalise(a), normalise(b)) for a, b in pairs), NONE).rate


if __name__ == "__main__":
    tyro.cli(main)
