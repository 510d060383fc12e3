"""What it is worth that rows leave a batch when they are done (`decoding/leaving.py`).

python -m benchmarks.leaving --manifest SET/manifest.jsonl
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import tyro
from rich.console import Console

from benchmarks.common import SAMPLES, alternate, load_clips, timing_table
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.decoding import leaving
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


def main(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "diffusion", "exact"),
    batch: int = 32,
    shrink: int = leaving.SHRINK,
) -> None:
    """Transcribe whole recordings with and without.

    Args:
        manifest: The recordings.
        bundle: Whose models.
        decoders: Which decoders.
        batch: Windows at once.
        shrink: The loop goes on with this part of the rows.
    """
    keep_compiled_programs()
    clips = [samples for _, samples in load_clips(manifest)]
    for decoder in decoders:
        contenders, texts = {}, set()
        for name, part in (("all stay", batch + 1), ("rows leave", shrink)):
            transcriber = Transcriber.from_bundle(bundle, decoder=decoder, batch_size=batch)
            run = partial(_texts, transcriber, clips)
            # Traced once, with the value of then.
            jax.clear_caches()
            with mock.patch.object(leaving, "SHRINK", part):
                texts.add(run())
            contenders[name] = run
        title = f"{bundle}, {decoder}, {len(clips)} recordings, batches of {batch}: "
        title += "the same texts" if len(texts) == 1 else "texts differ"
        seconds = sum(map(len, clips)) / 16_000
        table = timing_table(title, alternate(contenders), "all stay", seconds)
        Console().print(table, soft_wrap=True)


def _texts(transcriber: Transcriber, clips: Sequence[np.ndarray]) -> tuple[str, ...]:
    results = transcriber.transcribe_many(clips)
    return tuple(result.text for result in results if isinstance(result, Transcript))


if __name__ == "__main__":
    tyro.cli(main)
