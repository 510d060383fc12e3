"""Our decoders beside what people use for Whisper on a CPU: speed, errors, start and memory.

python -m benchmarks.peers speed --manifest SET/manifest.jsonl --long SET/long.jsonl
python -m benchmarks.peers processes --long SET/long.jsonl
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import (
    SAMPLES,
    alternate,
    load_clips,
    load_faster_whisper,
    open_bundle,
    timing_table,
    transformers_generate,
)
from tools.convert_weights.verify import reference
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import WINDOW_SECONDS, pad_to
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.transcriber import Transcriber

OURS = ("ar", "exact", "diffusion")
THEIRS = (
    "faster-whisper int8",
    "faster-whisper int8 batched",
    "faster-whisper float32",
    "faster-whisper float32 batched",
    "transformers",
)
CONTENDERS = (*OURS, *THEIRS)
PAUSE = 0.4
"""Seconds between the utterances of the long recording."""

Transcribe = Callable[[Sequence[str]], list[str]]
"""Files, one by one, to texts."""


def speed(
    manifest: Path = SAMPLES,
    long: Path | None = None,
    bundle: str = "tiny.en",
    lengths: tuple[float, ...] = (3, 7, 15, 30),
    each: int = 4,
    contenders: tuple[str, ...] = CONTENDERS,
    rounds: int = 5,
    window: float | None = None,
) -> None:
    """Time contenders in turn, warm: single files of some lengths, then one long recording.

    Args:
        manifest: Its utterances nearest to each length are the single files.
        long: A manifest whose utterances are joined to one recording.
        lengths: Seconds.
        each: Files of each length.
        contenders: Which.
        rounds: That are counted.
        window: Of ours, in seconds; without it the default.
    """
    keep_compiled_programs()
    found = {name: contender(name, bundle, window) for name in contenders}
    clips = load_clips(manifest)
    with tempfile.TemporaryDirectory() as folder:
        for seconds in lengths:
            near = sorted(clips, key=lambda clip: abs(len(clip[1]) / SAMPLE_RATE - seconds))[:each]
            files = [utterance.audio for utterance, _ in near]
            texts = [utterance.text for utterance, _ in near]
            audio = sum(len(samples) for _, samples in near) / SAMPLE_RATE
            title = f"{bundle}, {each} files of some {seconds:g} s, one by one"
            _table(title, found, files, [" ".join(texts)], audio, rounds)
        if long is not None:
            path, text, audio = joined(long, Path(folder), 1)
            title = f"{bundle}, one recording of {audio / 60:.0f} minutes"
            _table(title, found, [str(path)], [text], audio, rounds)


def processes(
    long: Path = SAMPLES,
    bundle: str = "tiny.en",
    times: tuple[int, ...] = (1, 8),
    contenders: tuple[str, ...] = ("ar", "exact", "diffusion", "faster-whisper int8 batched"),
) -> None:
    """One recording, and many times as long a one, each in a process of its own.

    Wall time from the process's start and its peak memory; compiled programs are kept from an
    earlier run.

    Args:
        long: A manifest whose utterances are joined to one recording.
        times: How often the recording is repeated.
        contenders: Which.
    """
    table = Table(title=f"{bundle}, from the start of the process")
    for column in ("contender", "minutes", "wall s", "RTFx", "peak MB", "WER %"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for count in times:
            path, text, audio = joined(long, Path(folder), count)
            for name in track(contenders, description="running", transient=True):
                command = [sys.executable, "-m", "benchmarks.peers", "one", name, bundle, str(path)]
                begin = time.perf_counter()
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                wall = time.perf_counter() - begin
                result = json.loads(said.splitlines()[-1])
                table.add_row(
                    name, f"{audio / 60:.0f}", f"{wall:.1f}", f"{audio / wall:.1f}",
                    f"{result['peak'] / 1e6:.0f}", f"{_errors([text], [result['text']]):.2f}",
                )  # fmt: skip
    Console(width=100).print(table)


def one(
    name: tyro.conf.Positional[str],
    bundle: tyro.conf.Positional[str],
    file: tyro.conf.Positional[Path],
) -> None:
    """Transcribe a file by one contender, and say the text and this process's peak memory."""
    keep_compiled_programs()
    (text,) = contender(name, bundle)([str(file)])
    # Linux counts in kilobytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"text": text, "peak": peak}))


def joined(manifest: Path, folder: Path, times: int) -> tuple[Path, str, float]:
    """A manifest's utterances as one file, with pauses: its path, what is said, its seconds."""
    path = folder / f"joined-{times}.wav"
    clips = load_clips(manifest)
    pause = np.zeros(int(PAUSE * SAMPLE_RATE), np.int16)
    written = 0
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        for _ in range(times):
            for _, samples in clips:
                sound = np.append((samples * 32767).astype(np.int16), pause)
                file.writeframes(sound.tobytes())
                written += len(sound)
    text = " ".join(utterance.text for utterance, _ in clips)
    return path, " ".join([text] * times), written / SAMPLE_RATE


def contender(name: str, bundle: str, window: float | None = None) -> Transcribe:
    """Load what one name stands for."""
    if name in OURS:
        transcriber = Transcriber.from_bundle(bundle, decoder=name, language="en", window=window)  # type: ignore[arg-type]
        return lambda files: [transcriber.transcribe(file).text for file in files]
    if name == "transformers":
        return _transformers(bundle)
    _, kind, *batched = name.split()
    return _faster_whisper(bundle, kind, bool(batched))


def _faster_whisper(bundle: str, kind: str, batched: bool) -> Transcribe:
    """By its defaults, but for one beam, as ours has."""
    from faster_whisper import BatchedInferencePipeline

    model = load_faster_whisper(open_bundle(bundle), kind)
    pipeline: Any = BatchedInferencePipeline(model) if batched else model

    def transcribe(files: Sequence[str]) -> list[str]:
        texts = []
        for file in files:
            segments, _ = pipeline.transcribe(file, language="en", beam_size=1)
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    return transcribe


def _transformers(bundle: str) -> Transcribe:
    """In windows of 30 s, eight at once."""
    import torch

    torch.set_num_threads(2)
    opened = open_bundle(bundle)
    model, bins = reference(opened), opened.config.model.mel_bins

    def transcribe(files: Sequence[str]) -> list[str]:
        texts = []
        for file in files:
            samples, size = read_audio(file), WINDOW_SECONDS * SAMPLE_RATE
            windows = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
            said = []
            for begin in range(0, len(windows), 8):
                batch = np.stack([pad_to(each, WINDOW_SECONDS) for each in windows[begin:][:8]])
                mel = torch.from_numpy(np.array(log_mel(batch, bins)).transpose(0, 2, 1).copy())
                written = transformers_generate(opened, model, len(batch), input_features=mel)
                said += [opened.tokenizer.decode(row).strip() for row in _texts(opened, written)]
            texts.append(" ".join(said))
        return texts

    return transcribe


def _texts(opened: Any, written: Any) -> list[list[int]]:
    end = opened.tokenizer.end
    return [[token for token in row if token < end] for row in written.tolist()]


def _table(
    title: str,
    contenders: dict[str, Transcribe],
    files: Sequence[str],
    texts: Sequence[str],
    audio: float,
    rounds: int,
) -> None:
    said: dict[str, list[str]] = {}

    def run(name: str) -> None:
        said[name] = contenders[name](files)

    times = alternate({name: partial(run, name) for name in contenders}, rounds)
    against = "faster-whisper int8 batched"
    errors = {name: _errors(texts, [" ".join(said[name])]) for name in times}
    first = against if against in times else next(iter(times))
    table = timing_table(title, times, first, audio, errors)
    Console(width=120).print(table)


def _errors(texts: Sequence[str], said: Sequence[str]) -> float:
    clean = normaliser_for("en")
    return 100 * jiwer.wer([clean(" ".join(texts))], [clean(" ".join(said))])


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"speed": speed, "processes": processes, "one": one})
