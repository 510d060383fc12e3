"""Exact decoding: whether the text is Whisper's, in how many rounds, and how fast.

python -m benchmarks.exact same --manifest SET/manifest.jsonl
python -m benchmarks.exact same --data MADE --split train[:500]
python -m benchmarks.exact speed --manifest SET/manifest.jsonl
"""

import tempfile
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import (
    SAMPLES,
    alternate,
    faster_whisper_directory,
    load_clips,
    open_bundle,
    timing_table,
)
from eval import test_set
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs, progress_bar
from whisfusion_jax.decoding.autoregressive import Vocabulary
from whisfusion_jax.decoding.exact import decode_exactly, drafter_of
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.transcription.transcriber import Transcriber

BUDGET = 8
"""Rounds; what needs more is listed."""


def same(
    manifest: Path | None = None,
    data: Path | None = None,
    split: str = "test",
    bundle: str = "tiny.en",
    drafts: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    worst: int = 10,
) -> None:
    """Hold exact decoding's tokens against greedy ones, and count rounds.

    Args:
        manifest: Recordings.
        data: Instead, a prepared TFDS set.
        split: Of that set.
        bundle: Whisper.
        drafts: Whose denoiser drafts; without it the bundle of that name.
        dtype: Of weights and activations.
        worst: How many of those that need most rounds to show.
    """
    keep_compiled_programs()
    utterances, sources = test_set(manifest, data, split)
    whisper, drafting = open_bundle(bundle), Bundle.open(find_bundle(drafts or bundle))
    exact = Transcriber(whisper, decoder="exact", drafts=drafting, dtype=dtype)
    greedy = Transcriber(whisper, decoder="ar", dtype=dtype)
    equal, rounds, tokens, slow = 0, [], [], []
    with progress_bar() as progress:
        pairs = progress.track(
            zip(exact.transcribe_many(sources), greedy.transcribe_many(sources), strict=True),
            total=len(utterances),
            description="decoding twice",
        )
        for utterance, (found, expected) in zip(utterances, pairs, strict=True):
            written = [[segment.tokens for segment in each.segments] for each in (found, expected)]
            equal += written[0] == written[1]
            for own, theirs in zip(found.segments, expected.segments, strict=True):
                # The prompt's pass is no round, and brings the first token.
                rounds.append(own.steps - 1)
                tokens.append(theirs.steps)
                if rounds[-1] > BUDGET:
                    slow.append((rounds[-1], tokens[-1], utterance.audio, own.text))
    print(f"{equal} of {len(utterances)} texts equal, token by token")
    print(
        f"{np.mean(tokens):.2f} tokens a window (with its end) in {np.mean(rounds):.2f} rounds: "
        f"{sum(tokens) / sum(rounds):.2f} tokens a round; "
        f"{len(slow)} of {len(rounds)} windows take more than {BUDGET} rounds"
    )
    table = Table("rounds", "tokens", "file", "text", title=f"more than {BUDGET} rounds")
    for count, length, file, text in sorted(slow, reverse=True)[:worst]:
        table.add_row(str(count), str(length), Path(file).name, text)
    Console().print(table)


def speed(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    drafts: str | None = None,
    batches: tuple[int, ...] = (1, 8, 32),
    sizes: tuple[int, ...] = (3, 4, 6, 8),
    pieces: int = 32,
) -> None:
    """Time decoders alone on pieces of 10 s, on encoder states that are there already.

    Args:
        manifest: Its recordings are joined and cut into pieces.
        bundle: Whisper.
        drafts: Whose denoiser drafts.
        batches: Pieces at once.
        sizes: Tokens of a draft.
        pieces: How many there are.
    """
    import ctranslate2

    opened = open_bundle(bundle)
    whisper, memory, tokenizer = opened.load_whisper(), opened.load_memory(), opened.tokenizer
    assert memory is not None
    model, rules = opened.config.model, opened.config.rules
    languages = tuple(tokenizer.languages.values()) if model.multilingual else ()
    vocabulary = Vocabulary(rules, tokenizer.end, tokenizer.no_speech, languages)
    prompt = tokenizer.prompt("en" if model.multilingual else None)
    denoiser, shortlist = Bundle.open(find_bundle(drafts or bundle)).load_denoiser()
    drafter = drafter_of(denoiser, shortlist, whisper.decoder, rules.suppress)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    speech = np.tile(speech, 1 + pieces * 160_000 // len(speech))
    clips = [speech[i * 160_000 :][:160_000] for i in range(pieces)]
    encode = jax.jit(
        lambda encoder, samples, memory: encoder(
            log_mel(samples, model.mel_bins, memory and memory.config.loudness), memory
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(opened, Path(folder)))
        ct2 = ctranslate2.models.Whisper(
            directory, compute_type="float32", intra_threads=2, inter_threads=1
        )
    for batch in batches:
        groups = [clips[begin : begin + batch] for begin in range(0, pieces, batch)]
        short = [
            encode(whisper.encoder, np.stack([pad_to(clip, 15) for clip in group]), memory)
            for group in groups
        ]
        views = [
            ctranslate2.StorageView.from_array(
                np.array(
                    encode(whisper.encoder, np.stack([pad_to(c, 30) for c in group]), None).states
                )
            )
            for group in groups
        ]
        prompts = jnp.array([prompt] * batch)

        def greedily(groups: Any = short, prompts: jax.Array = prompts) -> list[np.ndarray]:
            return [
                np.asarray(decode_greedily(whisper.decoder, audio, prompts, vocabulary).tokens)
                for audio in groups
            ]

        def exactly(size: int, groups: Any = short, prompts: jax.Array = prompts) -> list[Any]:
            return [
                jax.device_get(
                    decode_exactly(whisper.decoder, drafter, audio, prompts, vocabulary, size)
                )
                for audio in groups
            ]

        def ctranslate(views: Any = views, batch: int = batch) -> Any:
            return [
                ct2.generate(view, [prompt] * batch, beam_size=1, max_length=226) for view in views
            ]

        expected = np.concatenate(greedily())
        lengths = (expected != tokenizer.end).sum(1) + 1
        contenders: dict[str, Any] = {"greedy": greedily, "CTranslate2 float32": ctranslate}
        for size in sizes:
            found = exactly(size)
            tokens = np.concatenate([each.decoded.tokens for each in found])
            rounds = np.concatenate([each.rounds for each in found])
            slowest = np.mean([each.rounds.max() for each in found])
            equal = int((tokens == expected).all(1).sum())
            name = (
                f"exact, drafts of {size}: {rounds.mean():.2f} rounds (slowest of a batch "
                f"{slowest:.1f}), {equal} of {pieces} equal"
            )
            contenders[name] = lambda size=size, exactly=exactly: exactly(size)
        times = alternate(contenders)
        title = f"{bundle}, decoder alone, {pieces} pieces of 10 s, batch {batch}"
        Console().print(
            timing_table(f"{title}, {lengths.mean():.1f} tokens", times, "greedy"), soft_wrap=True
        )


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"same": same, "speed": speed})
