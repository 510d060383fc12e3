"""Autoregressive greedy decoding of 10 s of audio, beside transformers and CTranslate2 in float32.

python -m benchmarks.decoding --manifest SET/manifest.jsonl --bundle tiny.en
"""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from benchmarks.common import (
    SAMPLES,
    alternate,
    faster_whisper_directory,
    load_clips,
    open_bundle,
    timing_table,
    transformers_generate,
)
from tools.convert_weights.verify import reference
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.decoding.autoregressive import Decoded
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import AudioStates


def main(manifest: Path = SAMPLES, bundle: str = "tiny.en") -> None:
    """Time decoders alone, on encoder states that are there already.

    Args:
        manifest: Its recordings are joined and cut into pieces of 10 s.
        bundle: A bundle's directory, or published weights by name.
    """
    import ctranslate2
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    torch.set_num_threads(2)
    opened = open_bundle(bundle)
    whisper, memory, tokenizer = opened.load_whisper(), opened.load_memory(), opened.tokenizer
    rules, bins = opened.config.rules, opened.config.model.mel_bins
    multilingual = opened.config.model.multilingual
    prompt = tokenizer.prompt("en" if multilingual else None)
    languages = tuple(tokenizer.languages.values()) if multilingual else ()
    vocabulary = Vocabulary(rules, tokenizer.end, tokenizer.no_speech, languages)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    speech = np.tile(speech, 1 + 80 * 16_000 // len(speech))
    hugging_face = reference(opened)
    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(opened, Path(folder)))
        ct2 = ctranslate2.models.Whisper(
            directory, compute_type="float32", intra_threads=2, inter_threads=1
        )

    encode = jax.jit(lambda encoder, mel, memory: encoder(mel, memory))

    @jax.jit
    def write(decoder: Decoder, audio: AudioStates, prompts: jax.Array) -> Decoded:
        return decode_greedily(decoder, decoder.cross_cache(audio), prompts, vocabulary)

    for batch in (1, 8):
        clips = [pad_to(speech[i * 160_000 :][:160_000], 30) for i in range(batch)]
        full = encode(whisper.encoder, log_mel(np.stack(clips), bins), None)
        short = np.stack([clip[: 15 * 16_000] for clip in clips])
        bucket = None
        if memory is not None:
            loud = log_mel(short, bins, memory.config.loudness)
            bucket = encode(whisper.encoder, loud, memory)
        prompts = jnp.array([prompt] * batch)
        states = torch.from_numpy(np.array(full.states))
        view = ctranslate2.StorageView.from_array(np.array(full.states))

        def ours(audio: Any, prompts: jax.Array = prompts) -> list[list[int]]:
            decoded = write(whisper.decoder, audio, prompts)
            return np.asarray(decoded.tokens).tolist()

        def transformers(states: Any = states, batch: int = batch) -> Any:
            encoded = BaseModelOutput(last_hidden_state=states)
            return transformers_generate(opened, hugging_face, batch, encoder_outputs=encoded)

        def ctranslate(view: Any = view, batch: int = batch) -> Any:
            return ct2.generate(view, [prompt] * batch, beam_size=1, max_length=226)

        contenders = {
            "transformers": transformers,
            "CTranslate2 float32": ctranslate,
            "ours": lambda full=full: ours(full),
        }
        if bucket is not None:
            contenders["ours, with padding memory"] = lambda bucket=bucket: ours(bucket)
        longest = max(row.index(tokenizer.end) for row in ours(full))
        title = f"{bundle}, decoder alone, 10 s, batch {batch}, {longest} steps"
        times = alternate(contenders)
        Console().print(timing_table(title, times, "transformers"))
        written = transformers().tolist()
        same = sum(
            row[: len(other)] == other for row, other in zip(ours(full), written, strict=True)
        )
        print(f"same tokens as transformers: {same} of {batch} rows")


if __name__ == "__main__":
    tyro.cli(main)
