"""Exact decoding: whether the text is Whisper's, in how many rounds, and how fast.

python -m benchmarks.exact same --manifest SET/manifest.jsonl
python -m benchmarks.exact same --data MADE --split train[:500]
python -m benchmarks.exact speed --manifest SET/manifest.jsonl
python -m benchmarks.exact cost
python -m benchmarks.exact tree --manifest SET/manifest.jsonl
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from tests.support import random_denoising_bundle
from whisfusion_jax.audio.windows import WINDOW_SECONDS, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs, progress_bar
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.decoding.autoregressive import Vocabulary
from whisfusion_jax.decoding.branches import TREE, Branches, chain
from whisfusion_jax.decoding.drafting import DenoiserDrafter, Known, drafter_of
from whisfusion_jax.decoding.exact import Verified, decode_exactly
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.transcription.transcriber import Transcriber

_encode = jax.jit(encode)

BUDGET = 8
"""Rounds; what needs more is listed."""


def same(
    manifest: Path | None = None,
    data: Path | None = None,
    split: str = "test",
    bundle: str = "tiny.en",
    drafts: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    tokens_of_chain: int | None = None,
    window: float = 30,
    worst: int = 10,
) -> None:
    """Hold exact decoding's tokens against greedy ones, and count rounds.

    Args:
        manifest: Recordings.
        data: Instead, a prepared TFDS set.
        split: Of that set.
        bundle: Whisper.
        drafts: Whose denoiser drafts; without it the bundle of that name; "random" is one of random
            weights.
        dtype: Of weights and activations.
        tokens_of_chain: Verify chains of so many tokens instead of trees.
        window: Seconds of the longest window.
        worst: How many of those that need most rounds to show.
    """
    keep_compiled_programs()
    utterances, sources = test_set(manifest, data, split)
    branches = TREE if tokens_of_chain is None else chain(tokens_of_chain)
    whisper = open_bundle(bundle)
    drafting = drafting_bundle(whisper, drafts or bundle)
    exact = Transcriber(
        whisper, decoder="exact", drafts=drafting, dtype=dtype, branches=branches, window=window
    )
    greedy = Transcriber(whisper, decoder="ar", dtype=dtype, window=window)
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


def drafting_bundle(whisper: Bundle, name: str) -> Bundle:
    """A bundle with a denoiser, by name, or a random one for this Whisper."""
    if name != "random":
        return Bundle.open(find_bundle(name))
    return random_denoising_bundle(whisper, Path(tempfile.mkdtemp()) / "random")


def speed(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    drafts: str | None = None,
    batches: tuple[int, ...] = (1, 8, 32),
    chains: tuple[int, ...] = (4, 8),
    pieces: int = 32,
) -> None:
    """Time decoders alone on pieces of 10 s, on encoder states that are there already.

    Args:
        manifest: Its recordings are joined and cut into pieces.
        bundle: Whisper.
        drafts: Whose denoiser drafts; without it the bundle of that name; "random" is one of random
            weights.
        batches: Pieces at once.
        chains: Beside the tree, drafts of so many tokens, one for each position.
        pieces: How many there are.
    """
    import ctranslate2

    bench = _Bench.open(bundle, drafts)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    speech = np.tile(speech, 1 + pieces * 160_000 // len(speech))
    clips = [speech[i * 160_000 :][:160_000] for i in range(pieces)]
    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(bench.bundle, Path(folder)))
        ct2 = ctranslate2.models.Whisper(
            directory, compute_type="float32", intra_threads=2, inter_threads=1
        )
    shapes = {"tree": TREE} | {f"chain of {n}": chain(n) for n in chains}
    for batch in batches:
        groups = [clips[begin : begin + batch] for begin in range(0, pieces, batch)]
        short = [bench.encode(group, 15) for group in groups]
        views = [
            ctranslate2.StorageView.from_array(np.array(bench.encode(group, 30).states))
            for group in groups
        ]

        def ctranslate(views: Any = views, batch: int = batch) -> Any:
            prompts = [bench.prompt] * batch
            return [ct2.generate(view, prompts, beam_size=1, max_length=226) for view in views]

        greedily = partial(_each, bench.greedy, short)
        expected = np.concatenate(greedily())
        lengths = (expected != bench.vocabulary.end).sum(1) + 1
        contenders: dict[str, Any] = {"greedy": greedily, "CTranslate2 float32": ctranslate}
        for name, branches in shapes.items():
            run = partial(_each, partial(bench.exact, branches=branches), short)
            found = run()
            tokens = np.concatenate([each.decoded.tokens for each in found])
            rounds = np.concatenate([each.rounds for each in found])
            slowest = np.mean([each.rounds.max() for each in found])
            equal = int((tokens == expected).all(1).sum())
            label = f"exact, {name}: {rounds.mean():.2f} rounds"
            if batch > 1:
                label += f" (a batch's slowest {slowest:.1f})"
            contenders[f"{label}, {equal} of {pieces} equal"] = run
        title = f"{bundle}, decoder alone, {pieces} pieces of 10 s, batch {batch}"
        title += f", {lengths.mean():.1f} tokens"
        Console().print(timing_table(title, alternate(contenders), "greedy"), soft_wrap=True)


def cost(
    bundle: str = "tiny.en",
    drafts: str | None = None,
    batches: tuple[int, ...] = (1, 4, 8, 32),
    chains: tuple[int, ...] = (3, 4),
) -> None:
    """Count, as XLA does, what a greedy step and a round compute and what memory they touch.

    Args:
        bundle: Whisper.
        drafts: Whose denoiser drafts; without it the bundle of that name.
        batches: Pieces of 10 s at once.
        chains: Beside the tree, drafts of so many tokens.
    """
    bench = _Bench.open(bundle, drafts)
    decoder, drafter = bench.whisper.decoder, bench.drafter
    shapes = {"tree": TREE} | {f"chain of {n}": chain(n) for n in chains}
    table = Table(title=f"{bundle}, one pass over pieces of 10 s: GFLOP / GB")
    for column in ("batch", "greedy step", *(f"round, {name}" for name in shapes)):
        table.add_column(column, justify="right")
    for batch in batches:
        audio = bench.encode([np.zeros(160_000, np.float32)] * batch, 15)
        cross = decoder.cross_cache(audio)
        tokens = jnp.zeros((batch, 256), jnp.int32)
        reads = decoder, tokens, cross
        drafts_by = drafter, drafter.prepare(audio, cross)
        cache = decoder.empty_cache(*tokens.shape)
        row = [_counted(_greedy_step, cache, reads)]
        row += [_counted(partial(_round, b), cache, reads, drafts_by) for b in shapes.values()]
        table.add_row(str(batch), *row)
    Console().print(table)


def _greedy_step(cache: Cache, reads: tuple[Decoder, jax.Array, CrossCache]) -> Any:
    decoder, tokens, cross = reads
    hidden, cache = decoder(tokens[:, :1], cache, 40, cross)
    return decoder.logits(hidden).argmax(-1), cache


def _round(
    branches: Branches,
    cache: Cache,
    reads: tuple[Decoder, jax.Array, CrossCache],
    drafts_by: tuple[DenoiserDrafter, Any],
) -> Any:
    (decoder, tokens, cross), (drafter, prepared) = reads, drafts_by
    known = Known(tokens, jnp.full(len(tokens), 40), cache, 2)
    drafted, cache = drafter(prepared, known, branches.size, branches.ways)
    nodes = jnp.concatenate([tokens[:, :1], drafted[:, *branches.drafted]], axis=1)
    hidden, cache = decoder(nodes, cache, known.count, cross, branches.depth, branches.sees)
    return decoder.logits(hidden).argmax(-1), cache


def _counted(run: Callable[..., Any], cache: Cache, *rest: Any) -> str:
    counts = jax.jit(run, donate_argnums=0).lower(cache, *rest).compile().cost_analysis()
    return f"{counts['flops'] / 1e9:.2f} / {counts['bytes accessed'] / 1e9:.2f}"


def tree(
    manifest: Path = SAMPLES,
    bundle: str = "tiny.en",
    drafts: str | None = None,
    nodes: tuple[int, ...] = (4, 8, 12, 16, 24, 32),
    size: int = 6,
    ways: int = 6,
) -> None:
    """Grow trees by what is right most often, and say how many tokens a round each brings.

    Args:
        manifest: Its recordings of up to 9.5 s.
        bundle: Whisper.
        drafts: Whose denoiser drafts; without it the bundle of that name.
        nodes: Of the trees.
        size: Positions of a draft.
        ways: Likely tokens at each.
    """
    bench = _Bench.open(bundle, drafts)
    texts = []
    for _, samples in load_clips(manifest, longest=9.5):
        audio = bench.encode([samples], 10)
        written = bench.greedy(audio)[0].tolist()
        end = bench.vocabulary.end
        text = written[: written.index(end) + 1] if end in written else written
        texts.append(bench.lines(audio, text, size, ways))
    counts = Counter(
        line[:depth]
        for lines in texts
        for line in lines
        for depth in range(1, len(line) + 1)
        if max(line[:depth]) < ways
    )
    grown: list[tuple[int, ...]] = []
    for way, _ in sorted(counts.items(), key=lambda item: (-item[1], len(item[0]))):
        # What leads to a way is right at least as often.
        grown.append(way)
    for limit in nodes:
        branches = set(grown[:limit])
        rounds = sum(_count_rounds(lines, branches) for lines in texts)
        tokens = sum(map(len, texts))
        print(f"{limit} nodes: {tokens / rounds:.2f} tokens a round\n  {tuple(grown[:limit])}")


def _count_rounds(lines: Sequence[tuple[int, ...]], branches: set[tuple[int, ...]]) -> int:
    """How many rounds a text takes, of whose every position the right line is known."""
    rounds = at = 0
    while at < len(lines):
        line = lines[at]
        at += 1 + max(d for d in range(len(line) + 1) if d == 0 or line[:d] in branches)
        rounds += 1
    return rounds


def _each(run: Callable[[AudioStates], Any], groups: Sequence[AudioStates]) -> list[Any]:
    return [jax.device_get(run(audio)) for audio in groups]


@dataclass(frozen=True)
class _Bench:
    """Models and settings of a run."""

    bundle: Bundle
    whisper: Whisper
    memory: PaddingMemory
    vocabulary: Vocabulary
    prompt: list[int]
    drafter: DenoiserDrafter

    @classmethod
    def open(cls, name: str, drafts: str | None) -> "_Bench":
        bundle = open_bundle(name)
        tokenizer, rules = bundle.tokenizer, bundle.config.rules
        multilingual = bundle.config.model.multilingual
        whisper, memory = bundle.load_whisper(), bundle.load_memory()
        assert memory is not None
        languages = tuple(tokenizer.languages.values()) if multilingual else ()
        denoiser, shortlist = drafting_bundle(bundle, drafts or name).load_denoiser()
        return cls(
            bundle,
            whisper,
            memory,
            Vocabulary(rules, tokenizer.end, tokenizer.no_speech, languages),
            tokenizer.prompt("en" if multilingual else None),
            drafter_of(denoiser, shortlist, whisper.decoder, rules.suppress),
        )

    def encode(self, clips: Sequence[np.ndarray], bucket: int) -> AudioStates:
        """States of clips that are padded to so many seconds."""
        samples = np.stack([pad_to(clip, bucket) for clip in clips])
        return _encode(
            self.whisper.encoder, self.memory if bucket < WINDOW_SECONDS else None, samples
        )

    def greedy(self, audio: AudioStates) -> jax.Array:
        return decode_greedily(
            self.whisper.decoder, audio, self._prompts(audio), self.vocabulary
        ).tokens

    def exact(self, audio: AudioStates, branches: Branches) -> Verified:
        return decode_exactly(
            self.whisper.decoder, self.drafter, audio, self._prompts(audio), self.vocabulary,
            branches,
        )  # fmt: skip

    def lines(
        self, audio: AudioStates, text: Sequence[int], size: int, ways: int
    ) -> list[tuple[int, ...]]:
        """For each token of a text but the first, the ranks of it and the next in the draft."""
        # A few lengths, so that little is compiled.
        room = -(-(len(text) + size) // 32) * 32
        tokens = jnp.array([[*self.prompt, *text, *[self.vocabulary.end] * (room - len(text))]])
        drafted = np.asarray(
            _draft_everywhere(
                self.whisper.decoder, self.drafter, audio, tokens, len(self.prompt), size, ways
            )
        )
        found = []
        for at in range(1, len(text)):
            right = drafted[at] == np.array([*text[at : at + size], *[-1] * size])[:size, None]
            ranks = np.where(right.any(1), right.argmax(1), ways)
            found.append(tuple(ranks[: len(text) - at].tolist()))
        return found

    def _prompts(self, audio: AudioStates) -> jax.Array:
        return jnp.array([self.prompt] * len(audio.states))


@partial(jax.jit, static_argnames=("prompt", "size", "ways"))
def _draft_everywhere(
    decoder: Decoder,
    drafter: DenoiserDrafter,
    audio: AudioStates,
    tokens: jax.Array,
    prompt: int,
    size: int,
    ways: int,
) -> jax.Array:
    """Drafts after every beginning of one text: [positions of the text, size, ways]."""
    cross = decoder.cross_cache(audio)
    _, cache = decoder(tokens, decoder.empty_cache(*tokens.shape), 0, cross)
    prepared = drafter.prepare(audio, cross)

    def after(count: jax.Array) -> jax.Array:
        drafted, _ = drafter(prepared, Known(tokens, count[None], cache, prompt), size, ways)
        return drafted[0]

    return jax.lax.map(after, jnp.arange(prompt, tokens.shape[1] - size))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"same": same, "speed": speed, "cost": cost, "tree": tree})
