"""Exact decoding: whether the text is Whisper's, in how many passes, and how fast.

python -m benchmarks.exact same --manifest SET/manifest.jsonl
python -m benchmarks.exact same --data MADE --split train[:500]
python -m benchmarks.exact speed --manifest SET/manifest.jsonl
python -m benchmarks.exact cost
python -m benchmarks.exact parts
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from benchmarks.common import (
    PIECE,
    SAMPLES,
    alternate,
    faster_whisper_directory,
    load_clips,
    open_bundle,
    timing_table,
)
from eval import test_set
from tests.support import draws_of, random_denoising_bundle
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.config import FRAMES_PER_SECOND
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.hub import find_bundle, find_drafts
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates, Encoder
from whisfusion_jax.models.layers import Linear
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.parallel.mesh import one_device
from whisfusion_jax.progress import progress_bar
from whisfusion_jax.transcription.choice import Choice, Wishes, choose
from whisfusion_jax.transcription.decoders import Asked, Texts
from whisfusion_jax.transcription.hearing import Heard
from whisfusion_jax.transcription.transcriber import Transcriber

BUCKET = 10
"""Seconds that pieces are padded to."""


def same(
    manifest: Path | None = None,
    data: Path | None = None,
    split: str = "test",
    bundle: str = "tiny.en",
    drafts: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    window: float = PIECE,
    stretches: tuple[int, ...] = (5,),
    worst: int = 10,
) -> None:
    """Hold exact decoding's tokens against greedy ones, and count passes.

    Args:
        manifest: Recordings.
        data: Instead, a prepared TFDS set.
        split: Of that set.
        bundle: Whisper.
        drafts: Whose denoiser or head writes ahead; without it what ships for the bundle; "random"
            is a denoiser of random weights.
        dtype: Of weights and activations.
        window: Seconds of the longest window.
        stretches: Positions that a pass reads, each in its turn.
        worst: How many of those that need most passes to show.
    """
    keep_compiled_programs()
    utterances, sources = test_set(manifest, None, data, split)
    whisper = open_bundle(bundle)
    drafting = drafting_bundle(whisper, drafts or bundle)
    options: dict[str, Any] = {"dtype": dtype, "window": window, "batch_size": 1}
    greedy = Transcriber(whisper, decoder="ar", **options)
    with progress_bar() as progress:
        watch = partial(progress.track, total=len(utterances))
        expected = list(watch(greedy.transcribe_many(sources), description="one by one"))
        for stretch in stretches:
            exact = Transcriber(
                whisper, decoder="exact", drafts=drafting, stretch=stretch, **options
            )
            found = list(watch(exact.transcribe_many(sources), description="exactly"))
            _compare(found, expected, [each.audio for each in utterances], stretch, worst)


def _compare(
    found: Sequence[Any],
    expected: Sequence[Any],
    files: Sequence[str],
    stretch: int,
    worst: int,
) -> None:
    equal, rows = 0, []
    for own, theirs, file in zip(found, expected, files, strict=True):
        written = [[segment.tokens for segment in each.segments] for each in (own, theirs)]
        equal += written[0] == written[1]
        for a, b in zip(own.segments, theirs.segments, strict=True):
            rows.append((a.steps, b.steps, file, a.text))
    passes, tokens = (sum(row[at] for row in rows) for at in (0, 1))
    print(
        f"{stretch} positions: {equal} of {len(files)} texts equal, token by token; "
        f"{tokens / len(rows):.2f} tokens a window (with its end) in {passes / len(rows):.2f} "
        f"passes: {tokens / passes:.2f} tokens a pass"
    )
    table = Table("passes", "tokens", "file", "text", title="where most passes are needed")
    for count, length, file, text in sorted(rows, reverse=True)[:worst]:
        table.add_row(str(count), str(length), Path(file).name, text)
    Console().print(table)


def drafting_bundle(whisper: Bundle, name: str) -> Bundle:
    """What writes ahead, by name, or a random denoiser for this Whisper."""
    if name != "random":
        return Bundle.open(find_drafts(name) or find_bundle(name))
    return random_denoising_bundle(whisper, Path(tempfile.mkdtemp()) / "random")


def speed(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    drafts: str | None = None,
    batches: tuple[int, ...] = (1, 4, 8, 32),
    stretches: tuple[int, ...] = (5, 7, 9),
    pieces: int = 32,
) -> None:
    """Time decoders alone on pieces of 9.5 s, on encoder states that are there already.

    Args:
        manifest: Its recordings are joined and cut into pieces.
        bundle: Whisper.
        drafts: Whose denoiser or head writes ahead; without it what ships for the bundle; "random"
            is a denoiser of random weights.
        batches: Pieces at once.
        stretches: Positions that a pass reads, beside what is chosen by itself.
        pieces: How many there are.
    """
    import ctranslate2

    bench = Bench.open(bundle, drafts)
    size = int(PIECE * SAMPLE_RATE)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    speech = np.tile(speech, 1 + pieces * size // len(speech))
    clips = [speech[i * size :][:size] for i in range(pieces)]
    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(bench.bundle, Path(folder)))
        ct2 = ctranslate2.models.Whisper(
            directory, compute_type="float32", intra_threads=2, inter_threads=1
        )
    greedily = bench.choose(Wishes("ar"))
    for batch in batches:
        groups = [clips[begin : begin + batch] for begin in range(0, pieces, batch)]
        short = [bench.encode(group, BUCKET) for group in groups]
        views = [
            ctranslate2.StorageView.from_array(np.array(bench.encode(group, WINDOW_SECONDS).states))
            for group in groups
        ]

        def ctranslate(views: Any = views, batch: int = batch) -> Any:
            prompts = [bench.prompt] * batch
            return [ct2.generate(view, prompts, beam_size=1, max_length=226) for view in views]

        greedy = partial(_each, partial(bench.write, greedily), short)
        expected = np.concatenate([texts.tokens for texts in greedy()])
        lengths = (expected != bench.bundle.tokenizer.end).sum(-1) + 1
        contenders: dict[str, Any] = {"greedy": greedy, "CTranslate2 float32": ctranslate}
        usual = bench.choose(Wishes("exact"))
        contenders["exact, as it comes"] = partial(_each, partial(bench.write, usual), short)
        for stretch in stretches:
            chosen = bench.choose(Wishes("exact", stretch=stretch))
            run = partial(_each, partial(bench.write, chosen), short)
            found = run()
            tokens = np.concatenate([texts.tokens for texts in found])
            passes = np.concatenate([texts.steps for texts in found])
            equal = int((tokens == expected).all((1, 2)).sum())
            label = f"exact, {stretch} positions: {passes.mean():.2f} passes"
            contenders[f"{label}, {equal} of {pieces} equal"] = run
            plain = bench.choose(Wishes("exact", stretch=stretch))
            for _, module in nnx.iter_modules(plain.models[1].denoiser):
                if isinstance(module, Denoiser | Linear):
                    module.tiles = nnx.data(None)
            without = partial(_each, partial(bench.write, plain), short)
            contenders[f"the same, {stretch} positions, without tiles"] = without
        title = f"{bundle}, decoder alone, {pieces} pieces of {PIECE} s, batch {batch}"
        title += f", {lengths.mean():.1f} tokens"
        Console().print(timing_table(title, alternate(contenders), "greedy"), soft_wrap=True)


def cost(
    bundle: str = "tiny.en",
    drafts: str | None = None,
    batches: tuple[int, ...] = (1, 4, 8, 32),
    stretches: tuple[int, ...] = (5, 7, 9),
) -> None:
    """What XLA counts of one pass: GFLOP and GB touched.

    Args:
        bundle: Whisper.
        drafts: As `speed` takes it.
        batches: Texts at once.
        stretches: Positions that a pass reads.
    """
    bench = Bench.open(bundle, drafts)
    table = Table("batch", "greedy", *(f"{n} positions" for n in stretches))
    (_, denoisers) = bench.choose(Wishes("exact")).models
    denoiser = denoisers.denoiser
    for batch in batches:
        audio = bench.encode([np.zeros(SAMPLE_RATE, np.float32)] * batch, BUCKET)
        cells = []
        for size in (1, *stretches):
            tokens = jnp.zeros((batch, 1, 64), jnp.int32)
            cross, cache = denoiser.cross_cache(audio), denoiser.empty_cache(batch, 64)

            def one(denoiser: Any, tokens: Any, cross: Any, cache: Any, size: int = size) -> Any:
                start = jnp.full(tokens.shape[:2], 8)
                hidden, cache = denoiser.stretch(tokens, start, size, 2, 64, cross, cache, False)
                return denoiser.logits(hidden).max(-1), cache

            counted = jax.jit(one).lower(denoiser, tokens, cross, cache).compile().cost_analysis()
            cells.append(f"{counted['flops'] / 1e9:.2f} / {counted['bytes accessed'] / 1e9:.2f}")
        table.add_row(str(batch), *cells)
    Console().print(table)


def parts(
    bundle: str = "tiny.en",
    drafts: str | None = None,
    stretches: tuple[int, ...] = (1, 5, 7),
    times: int = 20,
) -> None:
    """Time what a pass consists of, at batch 1, in milliseconds.

    Args:
        bundle: Whisper.
        drafts: As `speed` takes it.
        stretches: Positions that a pass reads; 1 is what a greedy step does.
        times: That each is run.
    """
    bench = Bench.open(bundle, drafts)
    audio = bench.encode([np.zeros(SAMPLE_RATE, np.float32)], BUCKET)
    chosen = bench.choose(Wishes("exact"))
    _, denoisers = chosen.models
    denoiser, room = denoisers.denoiser, 240
    cross, cache = denoiser.cross_cache(audio), denoiser.empty_cache(1, room)
    tokens = jnp.zeros((1, 1, room), jnp.int32)
    runs: dict[str, Any] = {}

    def timed(name: str, run: Callable[..., Any], *args: Any) -> None:
        compiled = jax.jit(run)
        runs[name] = lambda: [jax.block_until_ready(compiled(*args)) for _ in range(times)]

    for size in stretches:

        def layers(model: Any, tokens: Any, cross: Any, cache: Any, size: int = size) -> Any:
            start = jnp.full((1, 1), 8)
            return model.stretch(tokens, start, size, 2, room, cross, cache, False, False)

        timed(f"layers, {size} positions", layers, denoiser, tokens, cross, cache)
        hidden = jnp.ones((1, size, denoiser.mask.shape[0]))
        timed(f"vocabulary, {size} positions", lambda m, h: m.logits(h).max(-1), denoiser, hidden)
    if chosen.head:
        end = bench.bundle.tokenizer.end
        timed("what the head hears", heard_by, chosen.reader, chosen.head, audio)
        heard = heard_by(chosen.reader, chosen.head, audio)
        timed("its draft", lambda each, heard: each.draft(heard, BUCKET, end), denoisers, heard)
    table = Table("", "ms, median", "lowest to highest")
    for name, seconds in alternate(runs).items():
        each = [1e3 * second / times for second in seconds]
        spread = f"{min(each):.2f} to {max(each):.2f}"
        table.add_row(name, f"{np.median(each):.2f}", spread)
    Console().print(table)


def _each(run: Callable[[AudioStates], Any], groups: Sequence[AudioStates]) -> list[Any]:
    return [jax.device_get(run(audio)) for audio in groups]


@jax.jit
def heard_by(reader: Decoder, head: CtcHead | None, audio: AudioStates) -> Heard:
    """What decoders read of pieces of BUCKET seconds."""
    frames = BUCKET * FRAMES_PER_SECOND
    return Heard(reader.cross_cache(audio), head and head.hear(audio.states[:, :frames]))


@partial(jax.jit, static_argnames=("decode", "seconds"))
def _write(models: Any, heard: Heard, prompt: jax.Array, decode: Any, seconds: int) -> Texts:
    draws = draws_of(jax.random.split(jax.random.key(0), len(prompt)))
    asked = Asked(prompt, draws, jnp.ones(len(prompt), bool))
    return decode(models, heard, asked, seconds)


@dataclass(frozen=True)
class Bench:
    """Whisper, its encoder, and what drafts: decoders are timed on states that are there."""

    bundle: Bundle
    drafts: Bundle
    encoder: Encoder
    memory: PaddingMemory
    prompt: list[int]

    @classmethod
    def open(cls, name: str, drafts: str | None) -> "Bench":
        bundle = open_bundle(name)
        memory = bundle.load_memory()
        assert memory is not None
        language = "en" if bundle.config.model.multilingual else None
        return cls(
            bundle,
            drafting_bundle(bundle, drafts or name),
            bundle.load_encoder(),
            memory,
            bundle.tokenizer.prompt(language),
        )

    def choose(self, wishes: Wishes) -> Choice:
        """A decoder; exact with a stretch that is named is never the greedy loop."""
        return choose(self.bundle, self.drafts, wishes, jnp.float32, one_device())

    def encode(self, clips: Sequence[np.ndarray], bucket: int) -> AudioStates:
        """States of clips that are padded to so many seconds."""
        samples = np.stack([pad_to(clip, bucket) for clip in clips])
        return encode(self.encoder, self.memory if bucket < WINDOW_SECONDS else None, samples)

    def write(self, chosen: Choice, audio: AudioStates) -> Texts:
        prompts = jnp.array([self.prompt] * len(audio.states))
        heard = heard_by(chosen.reader, chosen.head, audio)
        return _write(chosen.models, heard, prompts, chosen.decode, BUCKET)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"same": same, "speed": speed, "cost": cost, "parts": parts}
    )
