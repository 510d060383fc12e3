"""What a CPU's time for a batch goes into, and what hearing one beside writing another is worth.

python -m benchmarks.hearing parts
python -m benchmarks.hearing rows
python -m benchmarks.hearing ahead
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import SAMPLES, alternate, load_clips, open_bundle, timing_table
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import BUCKETS, SPARE_SECONDS, WINDOW_SECONDS
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.config import FRAMES_PER_SECOND
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import Encoder
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.transcriber import Transcriber


def parts(bundle: str = "tiny.en", seconds: int = 20) -> None:
    """Time the parts of hearing one window, and products of its sizes.

    Args:
        seconds: Of the window, a bucket.
    """
    opened = open_bundle(bundle)
    encoder, decoder, memory = opened.load_encoder(), opened.load_decoder(), opened.load_memory()
    assert memory is not None
    config, frames = opened.config.model, seconds * FRAMES_PER_SECOND
    samples = 0.05 * jax.random.normal(jax.random.key(0), (1, seconds * SAMPLE_RATE))
    loudness = memory.config.loudness
    mel = log_mel(samples, config.mel_bins, loudness)
    states, block = encoder.embed(mel), encoder.blocks[0]
    kernel = block.mlp.up.kernel[...]
    wide = jnp.ones((frames, config.width)), kernel
    narrow = jax.tree.map(lambda each: each.astype(jnp.bfloat16), wide)

    def product(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.matmul(*pair, preferred_element_type=jnp.float32)

    def attention(block: Any, x: jax.Array) -> jax.Array:
        return block.attention(block.attention_norm(x), block.keys_values(x))

    def cross(decoder: Decoder, audio: Any) -> Any:
        return decoder.cross_cache(audio)

    runs = {
        "log-mel": _compiled(lambda each: log_mel(each, config.mel_bins, loudness), samples),
        "convolutions": _compiled(lambda model, each: model.embed(each), encoder, mel),
        "a layer's attention": _compiled(attention, block, states),
        "its feed-forward": _compiled(lambda b, x: b.mlp(b.mlp_norm(x)), block, states),
        f"the encoder, {config.encoder_layers} layers": _compiled(
            lambda model, each: model(each, memory), encoder, mel
        ),
        "cross-attention's keys and values": _compiled(cross, decoder, encoder(mel, memory)),
        "feed-forward's first product, float32": _compiled(product, wide),
        "the same, bfloat16": _compiled(product, narrow),
    }
    table = Table("", "ms, median", "lowest to highest", title=f"{bundle}, a window of {seconds} s")
    for name, took in alternate(runs).items():
        each = [1e3 * second for second in took]
        table.add_row(name, f"{np.median(each):.1f}", f"{min(each):.1f} to {max(each):.1f}")
    Console().print(table)


def rows(bundle: str = "tiny.en", batch: int = 8) -> None:
    """The encoder on a batch of each bucket: as one batch, and row by row, as a CPU hears it."""
    opened = open_bundle(bundle)
    encoder, memory = opened.load_encoder(), opened.load_memory()
    assert isinstance(encoder, Encoder)
    for seconds in BUCKETS:
        shape = batch, 100 * seconds, opened.whisper.mel_bins
        mel = jax.random.normal(jax.random.key(0), shape)
        used = memory if seconds < WINDOW_SECONDS else None
        times = alternate(
            {
                "a batch": _compiled(lambda e, m, k: e(m, k).states, encoder, mel, used),
                "row by row": _compiled(
                    lambda e, m, k: e.row_by_row(m, k).states, encoder, mel, used
                ),
            }
        )
        Console().print(timing_table(f"{batch} windows of {seconds} s", times, "a batch"))


def ahead(
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "diffusion"),
    seconds: int = 20,
    windows: int = 16,
    batches: int = 4,
) -> None:
    """Time batches heard and written in turn, and each heard while the one before is written.

    Args:
        seconds: Of the windows, a bucket.
        windows: Of a batch.
        batches: One after the other.
    """
    keep_compiled_programs()
    size = int((seconds - SPARE_SECONDS) * SAMPLE_RATE)
    speech = np.concatenate([samples for _, samples in load_clips(SAMPLES)])
    clips = list(np.resize(speech, (windows, size)))
    for decoder in decoders:
        own = Transcriber.from_bundle(bundle, decoder=decoder, language="en", batch_size=windows)
        english = "en" if own.bundle.config.model.multilingual else None
        prompts = [own.bundle.tokenizer.prompt(english)] * windows
        hear = partial(own.recogniser.hear, clips, seconds)
        numbers = [(0, number) for number in range(windows)]
        write = partial(own.recogniser.write, prompts=prompts, numbers=numbers, bucket=seconds)
        contenders = {
            "in turn": partial(_in_turn, hear, write, batches),
            "one heard ahead": partial(_ahead, hear, write, batches),
        }
        title = f"{bundle}, {decoder}, {batches} batches of {windows} x {seconds} s"
        table = timing_table(title, alternate(contenders), "in turn")
        Console().print(table, soft_wrap=True)


def _in_turn(hear: Callable[[], Any], write: Callable[[Any], Any], batches: int) -> None:
    for _ in range(batches):
        write(hear())


def _ahead(hear: Callable[[], Any], write: Callable[[Any], Any], batches: int) -> None:
    heard = hear()
    for _ in range(batches - 1):
        following = hear()
        write(heard)
        heard = following
    write(heard)


def _compiled(run: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    compiled = jax.jit(run)
    return lambda: jax.block_until_ready(compiled(*args))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"parts": parts, "rows": rows, "ahead": ahead})
