"""What Whisper's frozen decoder costs on the voices of the training speech, and what it saves.

The denoiser keeps Whisper's decoder as it is, so it mishears old synthesizers as Whisper does. Here
that decoder itself is tuned on the encoded speech of a training run, token by token, and its
weights are then moved all or part of the way there (as in WiSE-FT, arXiv 2109.01903).

python -m benchmarks.tuned_decoder --encoded RUN/encoded --sentences en.txt \
    --manifest SET/manifest.jsonl --data MADE
"""

import dataclasses
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import PIECE, open_bundle
from eval import test_set
from whisfusion_jax.bundle import Bundle, named_variables, write_bundle
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.batches import Batch, Plan, load_batch
from whisfusion_jax.data.encoded import Encoded
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.storage import Tensor
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.step import with_memory
from whisfusion_jax.transcription.transcriber import Transcriber

POSITIONS = 1024
"""Of texts, in a batch."""


def main(
    encoded: Path,
    sentences: Path,
    manifest: Path,
    data: Path,
    bundle: str = "tiny.en",
    steps: int = 250,
    rate: float = 3e-4,
    shares: tuple[float, ...] = (0.0, 0.5, 1.0),
) -> None:
    """Tune, and score each share of the way.

    Args:
        encoded: A run's encoded speech.
        sentences: The lines that the run's shortlist was made of.
        manifest: Real recordings.
        data: A prepared set of made speech; its test split is scored.
        bundle: Whisper.
        steps: Of tuning.
        rate: Of learning, at first.
        shares: Of the way from Whisper's weights to the tuned ones.
    """
    keep_compiled_programs()
    opened = open_bundle(bundle)
    lines = sentences.read_text(encoding="utf-8").splitlines()
    shortlist = Shortlist.of_texts(lines, opened.tokenizer, commonest=10_000)
    before = opened.load_decoder()
    after = tune(before, opened, Encoded(encoded), shortlist, steps, rate)
    table = Table("share of the way", "made voices, WER %", "real recordings, WER %")
    sets = test_set(None, None, data, "test"), test_set(manifest, None, None, None)
    for share in shares:
        mixed = jax.tree.map(partial(lambda share, a, b: a + share * (b - a), share), before, after)
        with TemporaryDirectory() as folder:
            made = with_decoder(opened, mixed, Path(folder) / "bundle")
            transcriber = Transcriber(made, decoder="ar", window=PIECE)
            scores = [
                make_report(utterances, transcriber.transcribe_many(sources)).summary["wer"]
                for utterances, sources in sets
            ]
        table.add_row(f"{share:g}", *(f"{100 * score:.2f}" for score in scores))
    Console().print(table)


def tune(
    decoder: Decoder,
    bundle: Bundle,
    encoded: Encoded,
    shortlist: Shortlist,
    steps: int,
    rate: float,
) -> Decoder:
    """Learn the next token of every text, embeddings frozen, softmax over the shortlist."""
    memory = bundle.load_memory()
    assert memory is not None
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps, rate / 20)),
    )
    graph, frozen, learned = nnx.split(decoder, lambda path, _: path[0] == "embedding", ...)
    table = decoder.embedding[jnp.asarray(shortlist.tokens)]
    step = jax.jit(
        partial(_step, graph, optimizer, jnp.asarray(shortlist.tokens)), donate_argnums=(0, 1)
    )
    learned = jax.tree.map(jnp.copy, learned)
    state = optimizer.init(learned)
    plan = Plan(encoded, steps, POSITIONS, canvases=1, seed=1)
    for number in track(range(steps), description="tuning"):
        batch = load_batch(plan[number], plan, shortlist)
        learned, state = step(learned, state, frozen, table, memory, batch)
    return nnx.merge(graph, frozen, learned)


def _step(
    graph: nnx.GraphDef[Decoder],
    optimizer: optax.GradientTransformation,
    names: jax.Array,
    learned: nnx.State,
    state: optax.OptState,
    frozen: nnx.State,
    table: jax.Array,
    memory: PaddingMemory,
    batch: Batch,
) -> tuple[nnx.State, optax.OptState]:
    tokens = jnp.asarray(batch.targets.tokens)
    prompt = jnp.asarray(batch.prompt)

    def loss(learned: nnx.State) -> jax.Array:
        decoder = nnx.merge(graph, frozen, learned)
        audio = with_memory(jnp.asarray(batch.audio, jnp.float32), memory)
        text = names[jnp.concatenate([prompt, tokens[:, :-1]], axis=1)]
        cache = decoder.empty_cache(*text.shape)
        hidden, _ = decoder(text, cache, 0, decoder.cross_cache(audio))
        logits = hidden[:, prompt.shape[1] - 1 :] @ table.T
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        asked = jnp.arange(tokens.shape[1]) < jnp.asarray(batch.targets.lengths)[:, None]
        return (each * asked).sum() / asked.sum()

    updates, state = optimizer.update(jax.grad(loss)(learned), state, learned)
    return optax.apply_updates(learned, updates), state


def with_decoder(bundle: Bundle, decoder: Decoder, path: Path) -> Bundle:
    """The same bundle with another decoder."""
    tensors: dict[str, Any] = {}
    for part, model in (("encoder", bundle.load_encoder()), ("decoder", decoder)):
        for name, variable in named_variables(nnx.state(model)).items():
            tensors[f"{part}.{name}"] = Tensor.of(np.asarray(variable[...]))
    config = dataclasses.replace(bundle.config, memory=None)
    made = write_bundle(path, config, (bundle.path / "tokenizer.json").read_text(), tensors)
    memory = bundle.load_memory()
    return made if memory is None else made.with_memory(memory)


if __name__ == "__main__":
    tyro.cli(main)
