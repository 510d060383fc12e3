"""What a GPU or TPU needs for Whisper's encoder and each decoder, by model and batch.

python -m benchmarks.accelerator shapes   # random weights, as many tokens for each decoder
python -m benchmarks.accelerator real     # real weights and speech
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from benchmarks.common import ROUNDS, SAMPLES, load_clips, open_bundle
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS, pad_to
from whisfusion_jax.bundle import Bundle, abstract_denoiser, abstract_whisper
from whisfusion_jax.config import WHISPER_SIZES, DenoiserConfig, TokenRules, WhisperConfig
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.decoding.denoising import FREE, DenoisingSettings, Draws, denoise
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.stretches import Stretches, denoise_by_stretches
from whisfusion_jax.decoding.unmasking import PositionBiased, TopN
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.parallel.mesh import one_device
from whisfusion_jax.transcription.choice import STRETCH, Wishes, choose
from whisfusion_jax.transcription.decoders import DecoderName, Texts

TOKENS = 96
"""In a window of 30 s, as people speak."""
_END = 50_256
PAPER = DenoiserConfig(
    vocabulary=51_866, width=1280, heads=20, layers=16, audio_width=1280, hidden=3416, warm=False
)
"""Whisfusion's decoder on large-v3's encoder (configs/whisfusion_large_v3.py)."""


def shapes(
    sizes: tuple[str, ...] = ("tiny.en", "base", "large-v3", "large-v3-turbo"),
    batches: tuple[int, ...] = (1, 16, 64),
    steps: tuple[int, ...] = (4, 8),
    results: Path | None = None,
) -> None:
    """Random weights in bfloat16, windows of 30 s, 96 tokens each: seconds a batch.

    Args:
        sizes: Whisper models.
        batches: Windows at once.
        steps: Of the paper's decoder, on encoders as wide as large-v3's.
        results: A file for the figures, as JSON lines.
    """
    table = Table(title=f"{jax.devices()[0].device_kind}, bfloat16, windows of 30 s, ms")
    for column in ("model", "batch", "encoder", "what writes", "passes", "ms", "RTFx with encoder"):
        table.add_column(column, justify="right")
    for name in sizes:
        models = _Models(WHISPER_SIZES[name])
        for batch in batches:
            samples = jax.random.normal(jax.random.key(0), (batch, WINDOW_SECONDS * SAMPLE_RATE))
            run = partial(encode, models.encoder, None, 0.1 * samples)
            encoding = seconds_of(run)
            for what, passes, write in models.writers(run(), steps):
                writing = seconds_of(write)
                rtfx = batch * WINDOW_SECONDS / (encoding + writing)
                row = {"model": name, "batch": batch, "encoder": encoding, "what": what,
                       "passes": passes, "seconds": writing, "rtfx": rtfx}  # fmt: skip
                table.add_row(
                    name, str(batch), f"{1e3 * encoding:.1f}", what, str(passes),
                    f"{1e3 * writing:.1f}", f"{rtfx:.0f}",
                )  # fmt: skip
                print(json.dumps(row), flush=True)
                if results:
                    with results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        del models
    Console(width=110).print(table)


class _Models:
    """One Whisper's parts, and what denoises on its states."""

    def __init__(self, model: WhisperConfig) -> None:
        # The end never comes, so that all write as much.
        self._vocabulary = Vocabulary(TokenRules(suppress=(_END,)), end=_END)
        whisper = _random(abstract_whisper(model))
        self.encoder, self._decoder = whisper.encoder, whisper.decoder
        warm = DenoiserConfig.of_decoder(model, model.vocabulary)
        self._warm = _random(abstract_denoiser(warm))
        self._paper = _random(abstract_denoiser(PAPER)) if model.width == PAPER.width else None

    def writers(
        self, audio: AudioStates, steps: Sequence[int]
    ) -> list[tuple[str, int, Callable[[], Any]]]:
        """What each is called, its passes, and a run of it."""
        batch = len(audio.states)
        prompt = jnp.ones((batch, 4), jnp.int32)
        draws = Draws(jax.random.split(jax.random.key(0), batch), jnp.zeros(batch, jnp.int32))
        greedily = partial(decode_greedily, self._decoder, audio, prompt, self._vocabulary, TOKENS)
        how = Stretches(DenoisingSettings(self._vocabulary, PositionBiased()), TOKENS, STRETCH)
        stretches = partial(denoise_by_stretches, self._warm, audio, prompt, draws, how, None)
        passes = int(np.asarray(stretches()[0].steps).max())
        found: list[tuple[str, int, Callable[[], Any]]] = [
            ("ar", TOKENS, greedily),
            (f"stretches of {STRETCH}", passes, stretches),
        ]
        if self._paper is not None:
            given = jnp.full((batch, TOKENS), FREE)
            for count in steps:
                settings = DenoisingSettings(self._vocabulary, TopN(count))
                write = partial(denoise, self._paper, audio, prompt, given, draws, settings)
                found.append(("Whisfusion's decoder", count, write))
        return found


def real(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    whole: str | None = None,
    batches: tuple[int, ...] = (1, 16, 64),
    seconds: int = 10,
    decoders: tuple[DecoderName, ...] = ("ar", "exact", "diffusion"),
    dtype: str = "bfloat16",
) -> None:
    """Each decoder's time on real speech, cut into pieces, and whether exact writes ar's text.

    Args:
        manifest: Its recordings are joined and cut.
        bundle: Whose denoiser or head drafts.
        whole: A bundle with Whisper's own decoder, if it isn't `bundle`.
        batches: Pieces at once.
        seconds: Of a piece.
    """
    drafts = Bundle.open(find_bundle(bundle))
    whisper = Bundle.open(whole) if whole else open_bundle(bundle)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    speech = np.tile(speech, 1 + max(batches) * seconds * SAMPLE_RATE // len(speech))
    encoder, memory = whisper.load_encoder(jnp.dtype(dtype)), whisper.load_memory()
    language = "en" if whisper.config.model.multilingual else None
    table = Table(title=f"{jax.devices()[0].device_kind}, {bundle}, {dtype}, {seconds} s of speech")
    for column in ("batch", "encoder ms", "decoder", "passes", "ms", "a pass", "as ar", "RTFx"):
        table.add_column(column, justify="right")
    for batch in batches:
        size = (seconds * SAMPLE_RATE) * 19 // 20
        pieces = [speech[i * size : (i + 1) * size] for i in range(batch)]
        samples = jnp.asarray(np.stack([pad_to(piece, seconds) for piece in pieces]))
        run = partial(encode, encoder, memory, samples)
        encoding, audio = seconds_of(run), run()
        texts: dict[str, np.ndarray] = {}
        for decoder in decoders:
            chosen = choose(whisper, drafts, Wishes(decoder), jnp.dtype(dtype), one_device())
            prompt = whisper.tokenizer.prompt(language)
            if chosen.shortlist:
                prompt = chosen.shortlist.from_whisper(prompt)
            write = partial(
                _write, chosen.models, audio, jnp.array([prompt] * batch), chosen.decode, seconds
            )
            written = write()
            texts[decoder] = np.asarray(written.tokens)[:, 0]
            least = min(texts[decoder].shape[1], texts["ar"].shape[1])
            same = (texts[decoder][:, :least] == texts["ar"][:, :least]).all(1).sum()
            passes, writing = int(np.asarray(written.steps).max()), seconds_of(write)
            table.add_row(
                str(batch), f"{1e3 * encoding:.1f}", decoder, str(passes), f"{1e3 * writing:.1f}",
                f"{1e3 * writing / passes:.2f}", f"{same} of {batch}",
                f"{batch * size / SAMPLE_RATE / (encoding + writing):.0f}",
            )  # fmt: skip
    Console(width=110).print(table)


@partial(jax.jit, static_argnames=("decode", "seconds"))
def _write(models: Any, audio: AudioStates, prompt: jax.Array, decode: Any, seconds: int) -> Texts:
    batch = len(prompt)
    draws = Draws(jax.random.split(jax.random.key(0), batch), jnp.zeros(batch, jnp.int32))
    return decode(models, audio, prompt, draws, seconds)


def seconds_of(run: Callable[[], Any]) -> float:
    """The median of a few runs, after one that isn't counted."""
    jax.block_until_ready(run())
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _random(abstract: Any) -> Any:
    """A model of bfloat16 weights that say nothing."""
    graph, state = nnx.split(abstract)
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(state))))

    def fill(leaf: Any) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return _normal(next(keys), leaf.shape)

    return nnx.merge(graph, jax.tree.map(fill, state))


@partial(jax.jit, static_argnames="shape")
def _normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return 0.02 * jax.random.normal(key, shape, jnp.bfloat16)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"shapes": shapes, "real": real})
