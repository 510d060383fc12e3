"""How fast an accelerator transcribes windows of 30 s, by random weights of large models' shapes.

python -m benchmarks.accelerators --batches 1 16 64 --tokens 100

Every decoder writes as many tokens: none may write the end. So `ar` takes a pass a token, and the
denoiser of configs/whisfusion_large_v3.py as many steps as its rule has. What exact takes depends
on how much of its draft stands, of which random weights say nothing: it is given the passes that it
takes for so many tokens on LibriSpeech (docs/results.md). From samples to tokens all is one
compiled program. XLA_FLAGS=--xla_gpu_autotune_level=0 spares most of the time that they compile.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

from benchmarks.common import alternate
from configs.whisfusion_large_v3 import CONFIG
from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.bundle import Bundle, abstract_denoiser, abstract_whisper
from whisfusion_jax.cli import keep_compiled_programs, run
from whisfusion_jax.config import (
    WHISPER_SIZES,
    CtcConfig,
    DenoiserConfig,
    MeshConfig,
    TokenRules,
    WhisperConfig,
)
from whisfusion_jax.decoding.denoising import DenoisingSettings
from whisfusion_jax.decoding.unmasking import RandomRemask, TopN
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.ctc import head_of
from whisfusion_jax.models.denoiser import on_decoder, untrained_denoiser
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.transcription.choice import REPAIRED
from whisfusion_jax.transcription.decoders import (
    Autoregressive,
    Decode,
    Denoisers,
    Diffusion,
    Exact,
    Texts,
)
from whisfusion_jax.transcription.hearing import Heard, Listener, hear_spread
from whisfusion_jax.transcription.recognise import RecogniserSettings, Rows, write_spread

TOKENS_A_PASS = 3.61
"""That exact writes on LibriSpeech (docs/results.md)."""
CANDIDATES = 15
"""Of Whisfusion's Parallel Diffusion Decoding."""
_AGAINST = "ar, large-v3"
_VOCABULARY = Vocabulary(TokenRules(suppress=(0,)), end=0)
_MESH = MeshConfig()


@dataclass(frozen=True)
class Contender:
    """A decoder on an encoder."""

    model: WhisperConfig
    reader: str
    """Of the weights, by name: whose cross-attention reads what is heard."""
    decode: Decode | None
    """None only hears."""
    drafts: bool = False


def contenders(tokens: int) -> dict[str, Contender]:
    """What is timed, by name.

    Args:
        tokens: of every text.
    """
    large, turbo = WHISPER_SIZES["large-v3"], WHISPER_SIZES["large-v3-turbo"]
    greedy = Autoregressive(_VOCABULARY, max_tokens=tokens)
    settings = DenoisingSettings(_VOCABULARY)
    exact = Exact(settings, REPAIRED, max_tokens=round(tokens / TOKENS_A_PASS))

    def denoising(**changes: Any) -> Diffusion:
        return Diffusion(dataclasses.replace(settings, **changes), stretch=REPAIRED)

    return {
        "encoder alone": Contender(large, "denoiser", None),
        _AGAINST: Contender(large, "large", greedy),
        "ar, turbo": Contender(turbo, "turbo", greedy),
        "exact, large-v3": Contender(large, "large", exact, drafts=True),
        "diffusion, 4 steps": Contender(large, "denoiser", denoising(rule=TopN(4))),
        f"diffusion, 4 steps, {CANDIDATES} candidates": Contender(
            large, "denoiser", denoising(rule=RandomRemask(), candidates=CANDIDATES)
        ),
    }


def main(
    batches: tuple[int, ...] = (1, 16, 64),
    tokens: int = 100,
    sizes: str | None = None,
    only: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """Compile, fill with random weights, and time.

    Args:
        batches: Windows of 30 s at once.
        tokens: Of every text.
        sizes: A Whisper's, such as tiny, instead of large-v3's and turbo's: to try this.
        only: Contenders whose names begin so; all without it.
        out: Write all times there as json.
    """
    keep_compiled_programs()
    chosen = {n: c for n, c in contenders(tokens).items() if n.startswith(only or ("",))}
    denoiser = CONFIG.denoiser
    assert denoiser is not None
    if sizes is not None:
        small = WHISPER_SIZES[sizes]
        denoiser = dataclasses.replace(
            denoiser, width=small.width, heads=small.heads, layers=2, audio_width=small.width
        )
        chosen = {n: dataclasses.replace(c, model=small) for n, c in chosen.items()}
    weights = _Weights.of(denoiser, {c.reader: c.model for c in chosen.values()})
    programs = {
        (name, rows): _lowered(contender, weights, rows)
        for rows in batches
        for name, contender in chosen.items()
    }
    pool = ThreadPoolExecutor()
    compiled = {key: pool.submit(each.compile) for key, each in programs.items()}
    weights = weights.drawn()
    print(jax.devices()[0].device_kind)
    found: dict[int, dict[str, list[float]]] = {}
    passes: dict[str, float] = {}
    for rows in batches:
        runs: dict[str, Callable[[], Any]] = {}
        for name, contender in chosen.items():
            arguments = _arguments(contender, weights, rows)
            runs[name] = partial(_finish, compiled[name, rows].result(), *arguments)
            written = runs[name]()
            if isinstance(written, Texts):
                passes[name] = float(jnp.max(written.steps))
        found[rows] = alternate(runs)
        Console(width=140).print(_table({rows: found[rows]}, passes, tokens))
        if out is not None:
            out.write_text(json.dumps({"passes": passes, "seconds": found}))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Weights:
    """Everything in bfloat16, of shapes alone or drawn."""

    encoder: Any
    readers: dict[str, Any]
    head: Any
    drafting: Any
    """A denoiser on the largest decoder's weights."""

    @classmethod
    def of(cls, denoiser: DenoiserConfig, models: dict[str, WhisperConfig]) -> "_Weights":
        readers: dict[str, Any] = {
            name: abstract_denoiser(denoiser) if name == "denoiser" else abstract_whisper(m).decoder
            for name, m in models.items()
        }
        model = next(iter(models.values()))
        ctc = CtcConfig.of_whisper(model)
        drafting = None
        if "large" in models:
            warm = DenoiserConfig.of_decoder(models["large"], rank=0)
            drafting = nnx.eval_shape(
                lambda each: on_decoder(untrained_denoiser(warm), each), readers["large"]
            )
        head = nnx.eval_shape(lambda: head_of(ctc, rngs=nnx.Rngs(0)))
        encoder = abstract_whisper(model).encoder
        return narrow(cls(encoder, readers, head, drafting))

    def drawn(self) -> "_Weights":
        """With random numbers, made where they are to lie."""
        leaves, structure = jax.tree.flatten(self)

        @jax.jit
        def draw(key: jax.Array) -> list[jax.Array]:
            keys = jax.random.split(key, len(leaves))
            return [
                (0.02 * jax.random.normal(key, leaf.shape, leaf.dtype)).astype(leaf.dtype)
                for key, leaf in zip(keys, leaves, strict=True)
            ]

        return jax.tree.unflatten(structure, draw(jax.random.key(0)))


def narrow(tree: Any) -> Any:
    def each_narrow(leaf: Any) -> Any:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16 if floats else leaf.dtype)

    return jax.tree.map(each_narrow, tree)


def _lowered(contender: Contender, weights: _Weights, rows: int) -> Any:
    decode = contender.decode
    mesh = make_mesh(_MESH)

    @jax.jit
    def recognise(
        listener: Listener, models: Any, sound: tuple[jax.Array, jax.Array], asked: Rows
    ) -> Texts | Heard:
        heard = hear_spread(listener, *sound, WINDOW_SECONDS, mesh)
        if decode is None:
            return heard
        return write_spread(models, heard, asked, RecogniserSettings(decode), WINDOW_SECONDS, mesh)

    return recognise.lower(*_arguments(contender, weights, rows))


def _arguments(contender: Contender, weights: _Weights, rows: int) -> tuple[Any, ...]:
    reader = weights.readers[contender.reader]
    head = weights.head if contender.drafts else None
    listener = Listener(weights.encoder, reader, None, head, contender.model)
    models: Any = reader
    if contender.drafts:
        tokenizer = Bundle.open(find_bundle("tiny.en")).tokenizer
        models = (reader, Denoisers(weights.drafting, Merges.of(tokenizer)))
    elif isinstance(contender.decode, Diffusion):
        models = Denoisers(reader)
    sound = 0.1 * jax.random.normal(jax.random.key(1), (rows, WINDOW_SECONDS * SAMPLE_RATE))
    lengths = jnp.full(rows, WINDOW_SECONDS * SAMPLE_RATE)
    numbers = jnp.stack([jnp.arange(rows)] * 3, axis=1).astype(jnp.uint32)
    asked = Rows(jnp.ones(rows, bool), jnp.full(rows, 1500), jnp.full((rows, 4), 5), numbers)
    return listener, models, (sound, lengths), asked


def _finish(program: Any, *arguments: Any) -> Any:
    return jax.block_until_ready(program(*arguments))


def _table(
    found: dict[int, dict[str, list[float]]], passes: dict[str, float], tokens: int
) -> Table:
    table = Table(title=f"windows of 30 s, {tokens} tokens each, random weights")
    for column in ("batch", "", "passes", "ms", "RTFx", f"times as fast as {_AGAINST}"):
        table.add_column(column, justify="left" if not column else "right")
    for rows, times in found.items():
        for name, seconds in times.items():
            median = statistics.median(seconds)
            taken = f"{passes[name]:.0f}" if name in passes else ""
            ratio = _ratio(times.get(_AGAINST, ()), seconds)
            table.add_row(
                str(rows), name, taken, f"{1e3 * median:.1f}",
                f"{WINDOW_SECONDS * rows / median:.0f}", ratio,
            )  # fmt: skip
    return table


def _ratio(others: Sequence[float], own: Sequence[float]) -> str:
    ratios = [other / each for other, each in zip(others, own, strict=False)]
    if not ratios:
        return ""
    return f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    run(lambda: tyro.cli(main, description=__doc__))
