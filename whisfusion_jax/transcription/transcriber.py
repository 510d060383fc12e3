"""The `Transcriber`: files and arrays in any number to transcripts, in order."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from io import IOBase
from itertools import chain, count
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike, DTypeLike

from whisfusion_jax.audio.arrays import SAMPLE_RATE, samples_of
from whisfusion_jax.audio.cutting import cut_windows
from whisfusion_jax.audio.read import audio_pieces
from whisfusion_jax.audio.windows import (
    BUCKETS,
    SPARE_SECONDS,
    WINDOW_SECONDS,
    bucket_for,
)
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.decoding.denoising import FREE
from whisfusion_jax.decoding.unmasking import Rule
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.hub import find_bundle, find_drafts
from whisfusion_jax.parallel.mesh import one_device, row_shards
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.batching import BatchSize, in_batches
from whisfusion_jax.transcription.choice import (
    Wishes,
    alignment_heads,
    choose,
    usual_decoder,
)
from whisfusion_jax.transcription.decoders import (
    DecoderName,
    with_earlier,
    writes_around,
    writes_on,
)
from whisfusion_jax.transcription.doubts import (
    better_of,
    doubt_of,
    in_parts,
    nobody_speaks,
    repeats,
    said_once,
)
from whisfusion_jax.transcription.fixing import Known, with_known
from whisfusion_jax.transcription.hearing import Listener
from whisfusion_jax.transcription.pieces import Piece, Recording
from whisfusion_jax.transcription.prompts import Prompts
from whisfusion_jax.transcription.recognise import Hearing, Recogniser, RecogniserSettings
from whisfusion_jax.transcription.spelling import Speller
from whisfusion_jax.transcription.stitching import settle
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.turns import Ask, Asked, in_turns
from whisfusion_jax.transcription.winner import Winner
from whisfusion_jax.transcription.words import joined

CUT = 20 - SPARE_SECONDS
"""Seconds of the windows that recordings of more than 30 s are cut into: where the fewest words are
lost for the time it takes (docs/long_recordings.md)."""

Source = str | Path | IOBase | ArrayLike | tuple[ArrayLike, int]
"""A file's path, an open binary file, or samples (`audio/arrays.py`), perhaps with their rate."""


class Transcriber:
    """Reads, batches, recognises: a bundle's encoder with one of its decoders.

    Attributes:
        bundle: what it runs.
        decoder: which of its decoders writes.
        prompts: what stands before its texts: languages, tasks, earlier texts.
        recogniser: its compiled programs, and the time spent compiling.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        decoder: DecoderName | None = None,
        drafts: Bundle | None = None,
        language: str | None = None,
        task: Task = "transcribe",
        beams: int = 1,
        rule: Rule | None = None,
        candidates: int = 1,
        temperature: float = 0.0,
        winner: Winner = "mbr",
        seed: int = 0,
        batch_size: int = 16,
        batch_seconds: float | None = None,
        window: float | None = None,
        stretch: int | None = None,
        buckets: Sequence[int] = BUCKETS,
        initial_prompt: str | None = None,
        fix: Sequence[str] = (),
        word_times: bool = False,
        strict: bool = False,
        dtype: DTypeLike | None = None,
        mesh: Mesh | None = None,
        on_compile: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Load a bundle's weights.

        Args:
            decoder: `diffusion` writes several tokens a step, `ar` is Whisper's own, `exact`
                writes what `ar` writes, by diffusion's drafts, `ctc` what a CTC head hears, without
                any decoder; None is diffusion if the bundle has a denoiser, else its own.
            drafts: whose denoiser or head writes ahead; None is the bundle's own.
            language: a code such as "de"; None lets Whisper's decoder name each recording's.
            task: "translate" writes English, whatever is spoken; of multilingual models alone, and
                not by denoisers that were trained.
            beams: of Whisper's decoder; 1 is greedy.
            rule: which tokens diffusion keeps at each step, or `Repair`: how often it mends a CTC
                head's draft; None for the default, which is this where no denoiser was trained.
            candidates: texts that diffusion writes for each window, one of which wins.
            temperature: by which the candidates but the first are sampled.
            winner: how it is chosen (`transcription/winner.py`).
            seed: of all that diffusion draws; the same seed gives the same text, whatever else is
                transcribed.
            batch_size: the most windows that are recognised at once, by each part of the mesh.
            batch_seconds: of sound, the most likewise, as windows are padded, but a window in any
                case; None is any. A server's next request waits as long as a batch takes.
            window: the longest that a recording is cut into, in seconds, more than 5; None is
                30 s, and CUT for recordings that are longer.
            stretch: positions that a pass of `exact` or `diffusion` reads; None is as many as were
                fastest, for `exact` on a CPU in batches of more than two one.
            buckets: lengths in seconds that windows are padded to; those that the bundle's padding
                memory doesn't reach are left out, and without a memory 30 s alone is left.
            initial_prompt: text that each window is written as if it followed: names, spelling,
                style. Its last 200 tokens count.
            fix: words that are known: where a window says something like them (or, as
                "heard=known", the very words that are heard) they stand. Masks write a few tokens
                around them anew; `exact`, and diffusion that repairs, what is unsure behind them.
            word_times: say of each word when it begins and ends; costs one pass over the text.
            strict: refuse damaged recordings; otherwise what is in them is transcribed, and the
                transcript's `warning` says what is missing.
            dtype: of weights and activations; None is float32 on a CPU, else bfloat16.
            mesh: devices of this process that share the windows of a batch, on the axis `data`,
                and the arithmetic of each, on the axis `tensor`; None is one device.
            on_compile: told before each compilation, which may take seconds.

        Raises:
            WhisfusionError: a setting is out of range, or the model doesn't know the language.
        """
        if beams < 1 or batch_size < 1:
            raise WhisfusionError("beams and batch size must be at least 1")
        if batch_seconds is not None and batch_seconds <= 0:
            raise WhisfusionError(f"batches of {batch_seconds:g} s: must be more than 0")
        if WINDOW_SECONDS not in buckets or not all(0 < b <= WINDOW_SECONDS for b in buckets):
            raise WhisfusionError(f"buckets {tuple(buckets)}: 30 s and shorter, 30 among them")
        if window is not None and not 5 < window <= WINDOW_SECONDS:
            raise WhisfusionError(f"windows of {window:g} s: more than 5 s and at most 30")
        self.bundle = bundle
        self._tokenizer = tokenizer = bundle.tokenizer
        self.decoder = name = decoder or usual_decoder(bundle)
        prompts = Prompts.of(bundle, name, language, task)
        mesh = mesh or one_device()
        self._strict = strict
        self._batch_size = BatchSize(batch_size, batch_seconds or math.inf, row_shards(mesh))
        model = bundle.config.model
        memory = bundle.load_memory(mesh)
        self._buckets = tuple(sorted(buckets))
        if model.hears_padding:
            self._buckets = tuple(
                bucket
                for bucket in self._buckets
                if bucket == WINDOW_SECONDS
                or (memory is not None and memory.config.fits(model.frames(bucket)))
            )
        on_cpu = jax.default_backend() == "cpu"
        if dtype is None:
            dtype = jnp.float32 if on_cpu else jnp.bfloat16
        self._seed = seed
        translates = task == "translate"
        if translates and name == "diffusion" and (bundle.config.denoiser or rule):
            what = "a rule" if rule else "a denoiser"
            raise WhisfusionError(
                f"diffusion by {what} writes what is said: ar and exact translate"
            )
        if translates and name == "ctc":
            raise WhisfusionError("ctc writes what is said: ar and exact translate")
        self._window, self._whole = window or CUT, window or WINDOW_SECONDS
        self._known = tuple(Known.parse(text) for text in fix)
        if fix and name not in ("diffusion", "exact"):
            raise WhisfusionError(f"fix: {name} writes on from no words that are known")
        wishes = Wishes(name, beams, rule, candidates, temperature, stretch, translates=translates)
        chosen = choose(bundle, drafts or bundle, wishes, dtype, mesh)
        prompts = replace(prompts, shortlist=chosen.shortlist)
        self.prompts = prompts = replace(prompts, initial=prompts.earlier(initial_prompt))
        decode = chosen.decode
        if prompts.initial:
            decode = with_earlier(decode, len(prompts.initial))
        self._speller = Speller(tokenizer, chosen.shortlist, winner)
        if word_times and chosen.reader is None:
            raise WhisfusionError("word times: are read off a decoder, which ctc is without")
        heads = alignment_heads(bundle) if word_times else ()
        self.recogniser = Recogniser(
            Listener(bundle.load_encoder(dtype, mesh), chosen.reader, memory, chosen.head, model),
            chosen.models,
            RecogniserSettings(decode, heads),
            self._batch_size,
            mesh,
            on_compile,
        )

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path,
        *,
        decoder: DecoderName | None = None,
        on_compile: Callable[[str], None] = lambda message: None,
        **settings: Any,
    ) -> Self:
        """Open a bundle by its directory, or by a name that `whisfusion get` knows.

        Args:
            bundle: a directory, a `gs://` path, or a name such as "tiny.en".
            decoder: as the constructor takes it. `ar` and `exact` bring Whisper's own weights, if
                the name is that of a bundle that is shipped without.
            on_compile: told before each compilation, and of downloads.
            settings: as the constructor takes them.

        Raises:
            WhisfusionError: there is no such bundle, or it is damaged, or a setting is wrong.
        """
        whole = decoder in ("ar", "exact")
        opened = Bundle.open(find_bundle(bundle, on_compile, whole))
        shipped = find_drafts(bundle)
        drafts = Bundle.open(shipped) if shipped else None
        return cls(opened, decoder=decoder, drafts=drafts, on_compile=on_compile, **settings)

    def transcribe(self, source: Source, language: str | None = None) -> Transcript:
        """Transcribe one recording of any length.

        Args:
            source: a path, an open binary file, or samples: [samples], [samples, channels] or
                [channels, samples], floats in [-1, 1] or integers, at 16 kHz or in a pair with
                their rate.
            language: overrides the Transcriber's.

        Raises:
            AudioError: the recording can't be read.
            WhisfusionError: the model doesn't know the language.
        """
        (result,) = self.transcribe_many([source], language)
        if isinstance(result, AudioError):
            raise result
        return result

    def segments(self, source: Source, language: str | None = None) -> Iterator[Segment]:
        """Transcribe one recording, which may be read as it comes; each segment once it is there.

        Raises as `transcribe` does, perhaps behind the first segments.
        """
        for found in self.as_ready([source], language):
            if isinstance(found, AudioError):
                raise found
            if isinstance(found, Segment):
                yield found

    def transcribe_many(
        self, sources: Iterable[Source], language: str | None = None
    ) -> Iterator[Transcript | AudioError]:
        """Transcribe recordings in batches of like length; what can't be read yields its error.

        Results come in order, and don't depend on what shares their batch. Recordings are read
        some batches ahead, no more.
        """
        for found in self.as_ready(sources, language):
            if not isinstance(found, Segment):
                yield found

    def as_ready(
        self, sources: Iterable[Source], language: str | None = None
    ) -> Iterator[Segment | Transcript | AudioError]:
        """As `transcribe_many`, with each recording's segments before its transcript or error.

        Memory doesn't grow with a recording's length, but for its text.
        """
        self.prompts.check_language(language)
        found = in_batches(
            chain.from_iterable(
                self._pieces(number, Ask(source, language)) for number, source in enumerate(sources)
            ),
            self._hear,
            self._write,
            self._batch_size,
            hears_language=bool(self.prompts.codes),
        )
        for recording, segment in found:
            if segment is not None:
                yield segment
            else:
                yield recording.error or _transcript(recording)

    def as_finished(
        self, asked: Asked, patience: float
    ) -> Iterator[tuple[int, Segment | Transcript | AudioError]]:
        """Each recording's number and segments, and at last its transcript or error.

        Segments come in order, recordings as they are written: they take turns, window by window.

        Args:
            asked: gives recordings as they come, numbered from 0.
            patience: seconds that a batch waits for others to fill it.
        """
        numbers = count()

        def opened(wait: bool) -> Iterator[Piece | Recording] | None:
            ask = asked(wait)
            return None if ask is None else self._pieces(next(numbers), ask)

        found = in_batches(
            in_turns(opened),
            self._hear,
            self._write,
            self._batch_size,
            hears_language=bool(self.prompts.codes),
            in_order=False,
            patience=patience,
        )
        for recording, segment in found:
            yield recording.number, segment or recording.error or _transcript(recording)

    @property
    def writes_on(self) -> bool:
        """Whether words may stand that a text is written on from."""
        return writes_on(self.recogniser.settings.decode)

    def warm_up(
        self,
        track: Callable[[Sequence[int]], Iterable[int]] = lambda each: each,
        live: float = 0.0,
        earlier: bool = False,
    ) -> None:
        """Compile for windows of all lengths, one at once and many, so that nothing is later.

        Args:
            track: wraps the lengths, for progress.
            live: the longest windows whose words may stand, in seconds; longer ones whose words
                are known are written one by one.
            earlier: recordings may have earlier texts of their own, if the model takes any.
        """
        prompts = self.prompts
        bare = prompts.bare(prompts.language, prompts.task)
        prompt = [*prompts.initial, *bare]
        longest = bucket_for(int(live * SAMPLE_RATE), self._buckets)
        for bucket in track(self._buckets):
            for own in {False, earlier and prompts.takes_earlier}:
                prepare = partial(
                    self.recogniser.prepare, bucket, prompt=bare if own else prompt, earlier=own
                )
                for size in {1, self._batch_size.of(bucket)}:
                    prepare(size)
                    if live and self.writes_on and bucket <= longest:
                        prepare(size, standing=True)
                if live and self.writes_on:
                    around = writes_around(self.recogniser.settings.decode)
                    prepare(1, given=around, standing=not around)

    def _pieces(self, number: int, ask: Ask) -> Iterator[Piece | Recording]:
        """A recording's windows, then the recording."""
        language = self.prompts.check_language(ask.language) or self.prompts.language
        standing = ask.standing if self.writes_on else None
        known = *self._known, *ask.fix
        task = ask.task or self.prompts.task
        recording = Recording(number, language, task, standing, ask.earlier, known, ask.urgent)
        try:
            for window, samples in cut_windows(
                self._samples(ask.source, recording), self._window, self._whole
            ):
                if not ask.wanted():
                    break
                bucket = bucket_for(len(samples), self._buckets)
                piece = Piece(recording, recording.windows, window, samples, bucket)
                recording.windows += 1
                if window.goes_on:
                    recording.seams.add(piece.number)
                yield piece
        except AudioError as error:
            recording.error = error
        recording.whole = True
        yield recording

    def _samples(self, source: Source, recording: Recording) -> Iterator[np.ndarray]:
        """A recording's samples, piece by piece."""
        lost: list[str] = []
        if isinstance(source, str | Path | IOBase):
            pieces = audio_pieces(source, None if self._strict else lost.append)
        else:
            pieces = iter([samples_of(source)])
        for piece in pieces:
            recording.samples += len(piece)
            yield piece
        recording.warning = "; ".join(lost) or None

    def _hear(self, pieces: Sequence[Piece]) -> Hearing:
        kind = pieces[0].kind
        return self.recogniser.hear([piece.samples for piece in pieces], kind.bucket, kind.stand)

    def _write(self, pieces: Sequence[Piece], heard: Hearing) -> Iterator[Piece]:
        """Write pieces of one bucket; those that can't be right are to be written again."""
        prompts = [self.prompts.of_recording(piece.recording) for piece in pieces]
        # A window's number is its place, so that a recording's text is its own.
        numbers = [(self._seed, piece.window.start) for piece in pieces]
        kind = pieces[0].kind
        standing = [self._canvas(piece) for piece in pieces] if kind.stand else None
        texts, seconds = self.recogniser.write(
            heard, prompts, numbers, kind.bucket, None, standing, _earlier(pieces)
        )
        for row, piece in enumerate(pieces):
            recording = piece.recording
            recording.language = self.prompts.language_of(int(texts.language[row]))
            recording.compute_seconds += seconds / len(pieces)
            segment = first = self._speller.segment(piece, texts, row)
            if nobody_speaks(first, piece):
                segment = self._speller.segment(piece, texts, row, most=0)
            elif repeats(first):
                segment = self._speller.segment(piece, texts, row, most=said_once(first.tokens))
            segment = self._fixed(piece, segment, heard if len(pieces) == 1 else None)
            if again := piece.again:
                again.parts[piece.number] = segment
                again.repeats |= repeats(first)
                if len(again.parts) == again.count:
                    settle(recording, again.number, better_of(again), self._tokenizer)
                continue
            doubt = None if piece.recording.urgent else doubt_of(first, piece)
            if doubt and segment.text and (parts := in_parts(piece, segment, doubt)):
                yield from parts
            else:
                settle(recording, piece.number, (segment,), self._tokenizer)

    def _canvas(self, piece: Piece) -> list[int]:
        """Of a text that begins with what stands; free where that has no room."""
        room = self.recogniser.canvas(piece.bucket)
        standing = piece.recording.standing if piece.number == 0 else None
        return self._speller.given([*(standing or ()), FREE], room) or [FREE] * room

    def _fixed(self, piece: Piece, segment: Segment, heard: Hearing | None) -> Segment:
        """With the words that are known, if something like them was written.

        Args:
            heard: the piece alone, if it was.
        """
        spelled = self._tokenizer, piece.recording.language
        written = segment.tokens, segment.confidences
        known = piece.recording.known
        placed = with_known(*written, known, *spelled) if known else None
        if placed is None:
            return segment
        around = writes_around(self.recogniser.settings.decode)
        given = placed.masked() if around else placed.begun()
        own = self._speller.given(given, self.recogniser.canvas(piece.bucket))
        if own is None:
            return segment
        texts, seconds = self.recogniser.write(
            heard or self._hear([piece]),
            [self.prompts.of_recording(piece.recording)],
            [(self._seed, piece.window.start)],
            piece.bucket,
            given=[own] if around else None,
            standing=None if around else [own],
            earlier=_earlier([piece]),
        )
        piece.recording.compute_seconds += seconds
        return self._speller.segment(piece, texts, 0)


def _earlier(pieces: Sequence[Piece]) -> list[int] | None:
    """Tokens of each one's own earlier text, if pieces of this kind have them."""
    if not pieces[0].kind.earlier:
        return None
    return [len(piece.recording.earlier) for piece in pieces]


def _transcript(recording: Recording) -> Transcript:
    segments = tuple(
        segment for number in range(recording.windows) for segment in recording.segments[number]
    )
    return Transcript(
        text=joined((segment.text, segment.blank) for segment in segments if segment.text),
        language=recording.language,
        seconds=recording.samples / SAMPLE_RATE,
        segments=segments,
        compute_seconds=recording.compute_seconds,
        warning=recording.warning,
    )
