"""Samples to texts by compiled programs: one hears, for each bucket, one writes, for each length.

A batch has one row on each part of the mesh, or is full, and rows that nothing is asked of cost
next to nothing: so two programs a length write everything.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS, frames_of, pad_to
from whisfusion_jax.config import ROWS
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.denoising import FREE, Draws
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.mesh import by_rows, own_axes, row_shards
from whisfusion_jax.transcription.alignment import Heads
from whisfusion_jax.transcription.batching import BatchSize
from whisfusion_jax.transcription.decoders import (
    EARLIER,
    Asked,
    Decode,
    Texts,
    candidates_of,
    has_use_for_head,
    joined,
    length_for,
    timed,
    with_candidates,
    with_earlier,
)
from whisfusion_jax.transcription.hearing import (
    Heard,
    Listener,
    hear_spread,
    put_rows,
)


@dataclass(frozen=True)
class RecogniserSettings:
    """What a compiled program depends on beside shapes."""

    decode: Decode
    heads: Heads = ()
    """That say when each token was spoken; without them none is said."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """A batch of what is to be written, beside what is heard."""

    wanted: jax.Array
    """[batch] bool: False for what fills the batch up."""
    frames: jax.Array
    """[batch] int32: the encoder's, without the padding."""
    prompt: jax.Array
    """[batch, p] int32, in the decoder's tokens."""
    numbers: jax.Array
    """[batch, 3] uint32, for random draws: the seed, each window's own number, and that of the
    first candidate."""
    given: jax.Array | None = None
    """As in `Asked`, like the next."""
    standing: jax.Array | None = None
    skipped: jax.Array | None = None
    """[batch] int32: the first positions of the prompts that hold nothing; None is none."""


@partial(jax.jit, static_argnames=("settings", "length", "mesh"))
def write_spread(
    model: Any, heard: Heard, rows: Rows, settings: RecogniserSettings, length: int, mesh: Mesh
) -> Texts:
    """`_write`, its rows spread over a mesh: each part ends its loops by itself."""

    def alone(model: Any, heard: Heard, rows: Rows) -> Texts:
        return _write(model, heard, rows, settings, length)

    return jax.shard_map(
        alone,
        mesh=mesh,
        in_specs=(P(), P(ROWS), P(ROWS)),
        out_specs=P(ROWS),
        axis_names=own_axes(mesh),
        check_vma=False,
    )(model, heard, rows)


def _write(
    model: Any, heard: Heard, rows: Rows, settings: RecogniserSettings, length: int
) -> Texts:
    """What is heard to texts, and when they were said.

    Args:
        model: that `settings.decode` runs.
        length: seconds of audio, at most.
    """
    numbers, decode = rows.numbers, settings.decode
    keys = jax.vmap(lambda pair: jax.random.fold_in(jax.random.key(pair[0]), pair[1]))(numbers)
    draws = Draws(keys, numbers[:, 2].astype(jnp.int32))
    asked = Asked(rows.prompt, draws, rows.wanted, rows.given, rows.standing)
    if rows.skipped is not None:
        heard = replace(heard, cross=replace(heard.cross, skipped=rows.skipped))
    texts = decode(model, heard, asked, length)
    if not settings.heads:
        return texts
    reader, cross = decode.reader(model), heard.cross
    assert reader is not None  # or no head of it were known
    return timed(
        texts, reader, cross, rows.prompt, rows.frames, settings.heads, length, decode.vocabulary
    )


@dataclass
class Hearing:
    """A batch that is being heard, beside what is written."""

    parts: int
    """Rows of each window."""
    rows: int
    """Of the batch."""
    frames: Sequence[int]
    """Of each window, without padding."""
    begin: float = field(default_factory=time.perf_counter)
    left: threading.Event = field(default_factory=threading.Event)
    future: "Future[Heard]" = field(init=False)

    def cancel(self) -> None:
        """Stop behind the row that is being heard: nobody waits for the others."""
        self.left.set()
        self.future.cancel()


class Recogniser:
    """Keeps the compiled programs; a second batch of the same shape compiles nothing."""

    def __init__(
        self,
        listener: Listener,
        decoder: Any,
        settings: RecogniserSettings,
        most: BatchSize,
        mesh: Mesh,
        on_compile: Callable[[str], None],
    ) -> None:
        """Take over what lies on the mesh's devices.

        Args:
            decoder: the model that `settings.decode` runs.
            most: of a batch.

        Raises:
            WhisfusionError: the mesh spreads weights over an axis that recognising has no use for.
        """
        if mesh.shape["fsdp"] > 1:
            raise WhisfusionError("mesh: fsdp is for training; use data or tensor")
        self._listener = listener
        self._decoder = decoder
        self.settings = settings
        self._most = most
        self._mesh = mesh
        self._on_compile = on_compile
        self._programs: dict[Any, Any] = {}
        self.compile_seconds = 0.0
        """Spent compiling so far; not part of any batch's time."""
        self._asked = self._batches = 0
        """Rows that were asked for so far, and rows of their batches."""
        self._thread = ThreadPoolExecutor(1, "hearing")
        self._end = 0.0
        """When the last batch was written."""

    @property
    def fill(self) -> float:
        """Of the rows of all batches so far, the share that was asked for."""
        return self._asked / max(self._batches, 1)

    def hear(self, windows: Sequence[np.ndarray], bucket: int, stand: bool = False) -> Hearing:
        """Begin to hear windows of one bucket, in a thread.

        Args:
            windows: each [samples], at most `bucket` seconds.
            bucket: seconds.
            stand: words may stand, in what is written.
        """
        parts = self._parts(len(windows))
        live = [each for window in windows for each in [window] * parts]
        rows = self._rows(len(live), bucket)
        filled = live + [live[-1]] * (rows - len(live))
        listen = self._listening(filled, len(live), bucket, stand)
        hearing = Hearing(parts, rows, [frames_of(window) for window in windows])
        hearing.future = self._thread.submit(listen, hearing.left)
        return hearing

    def write(
        self,
        hearing: Hearing,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[tuple[int, int]],
        bucket: int,
        given: Sequence[Sequence[int]] | None = None,
        standing: Sequence[Sequence[int]] | None = None,
        earlier: Sequence[int] | None = None,
    ) -> tuple[Texts, float]:
        """Write what is heard.

        Args:
            prompts: of each window; of one length, but for an earlier text in front.
            numbers: the seed and each window's own number.
            bucket: seconds, as it was heard by.
            given: of each window's text the tokens that stand, and FREE; `canvas` of them.
            standing: likewise, where all that stands is the text's beginning.
            earlier: how many tokens of an earlier text each prompt has in front, at most EARLIER;
                None where that is the same for all, as `settings` have it.

        Returns:
            NumPy results with a row a window, and the seconds that it took since the batch before.
        """
        windows, parts = len(hearing.frames), hearing.parts
        count = windows * parts
        self._asked += count
        self._batches += hearing.rows
        # The last is repeated where nothing is asked.
        filled = [divmod(min(row, count - 1), parts) for row in range(hearing.rows)]
        of_rows = [window for window, _ in filled]
        try:
            heard = hearing.future.result()
        except BaseException:  # the user's, too, who wants no more of it
            hearing.cancel()
            raise
        each = candidates_of(self.settings.decode) // parts
        prompt, skipped = _side_by_side(prompts, earlier)
        drawn = [(*numbers[window], part * each) for window, part in filled]
        arrays = (
            np.arange(hearing.rows) < count,
            np.array(hearing.frames, np.int32)[of_rows],
            prompt[of_rows],
            np.array(drawn, np.uint32),
            *(
                None if own is None else np.asarray(own, np.int32)[of_rows]
                for own in (given, standing, skipped)
            ),
        )
        compiled = self.compile_seconds
        texts = jax.device_get(self._write(heard, arrays, bucket, each))
        end = time.perf_counter()
        seconds = end - max(hearing.begin, self._end) - (self.compile_seconds - compiled)
        self._end = end
        return joined(texts, windows, parts), seconds

    def canvas(self, bucket: int) -> int:
        """Tokens of a bucket's canvases, for `given`."""
        return canvas_for(length_for(self.settings.decode, bucket))

    def prepare(
        self,
        bucket: int,
        windows: int,
        prompt: Sequence[int],
        given: bool = False,
        standing: bool = False,
        earlier: bool = False,
    ) -> None:
        """Compile what so many windows of a bucket need, if it isn't there.

        Args:
            given: where words stand.
            standing: where all that stands is the text's beginning.
            earlier: where each has an earlier text of its own, which this prompt has not.
        """
        rows = self._rows(windows, bucket)
        silence, canvas = [np.zeros(SAMPLE_RATE, np.float32)] * rows, (rows, self.canvas(bucket))
        heard = self._listening(silence, 1, bucket, standing)(threading.Event())
        prompts, skipped = _side_by_side([prompt] * rows, [0] * rows if earlier else None)
        arrays = (
            np.zeros(rows, bool),
            np.ones(rows, np.int32),
            prompts,
            np.zeros((rows, 3), np.uint32),
            *(np.full(canvas, FREE, np.int32) if each else None for each in (given, standing)),
            skipped,
        )
        jax.block_until_ready(
            self._write(heard, arrays, bucket, candidates_of(self.settings.decode))
        )

    def _rows(self, count: int, bucket: int) -> int:
        """Of the batch that holds so many: one on each part of the mesh, or all it ever has."""
        shards = row_shards(self._mesh)
        return shards if count <= shards else self._most.of(bucket)

    def _parts(self, windows: int) -> int:
        """Shards that each window's candidates are spread over, where there are shards to spare."""
        candidates = candidates_of(self.settings.decode)
        spare = max(1, row_shards(self._mesh) // windows)
        return max(part for part in range(1, spare + 1) if candidates % part == 0)

    def _listening(
        self, windows: Sequence[np.ndarray], live: int, bucket: int, stand: bool
    ) -> Callable[[threading.Event], Heard]:
        """What hears a batch's windows, of which so many are live; it is compiled already.

        On a CPU one row after the other, so that the caches keep what a layer writes
        (docs/long_recordings.md).
        """
        decode, by_row = self.settings.decode, by_rows(self._mesh)
        shards = row_shards(self._mesh)
        each = len(windows) // shards
        length, listener = length_for(decode, bucket), self._listener
        if bucket == WINDOW_SECONDS:
            listener = replace(listener, memory=None)
        if not has_use_for_head(decode, each, stand):
            listener = replace(listener, head=None)
        at_once = each if jax.default_backend() != "cpu" else 1
        rows = at_once * shards
        shape = partial(jax.ShapeDtypeStruct, sharding=by_row)
        samples = shape((rows, bucket * SAMPLE_RATE), np.float32)
        lengths = shape((rows,), np.int32)
        key = "hear", bucket, rows, listener.head is None
        what = f"the encoder, windows of {bucket} s"
        args = listener, samples, lengths, length, self._mesh
        program = self._compiled(key, what, hear_spread, *args)

        def hear(windows: Sequence[np.ndarray]) -> Heard:
            samples = np.stack([pad_to(window, bucket) for window in windows])
            lengths = np.array([len(window) for window in windows], np.int32)
            return program(listener, *jax.device_put((samples, lengths), by_row))

        def hear_all(left: threading.Event) -> Heard:
            if each == at_once:
                return hear(windows)
            batch: Heard | None = None
            for own in range(min(each, live)):
                if left.is_set():
                    raise CancelledError
                heard = jax.block_until_ready(hear(windows[own::each]))
                if batch is None:
                    batch = self._empty(heard, len(windows))
                batch = put_rows(batch, heard, np.int32(own), self._mesh)
            assert batch is not None
            return batch

        return hear_all

    def _empty(self, heard: Heard, rows: int) -> Heard:
        """Room for a batch of so many."""
        by_row = by_rows(self._mesh)
        return jax.tree.map(
            lambda each: jnp.zeros((rows, *each.shape[1:]), each.dtype, device=by_row), heard
        )

    def _write(
        self, heard: Heard, arrays: tuple[np.ndarray | None, ...], bucket: int, candidates: int
    ) -> Texts:
        """What is heard to texts; arrays are those of `Rows`."""
        rows = Rows(*jax.device_put(arrays, by_rows(self._mesh)))
        decode = with_candidates(self.settings.decode, candidates)
        if rows.skipped is not None:
            decode = with_earlier(decode, EARLIER)
        settings = replace(self.settings, decode=decode)
        length = length_for(decode, bucket)
        # Windows of 30 s have no memory, so no bias; and nothing may be given.
        kind = jax.tree.structure((heard, rows))
        key = "write", length, kind, rows.prompt.shape, candidates
        what = f"the decoder, up to {length} s, {len(rows.wanted)} at once"
        args = self._decoder, heard, rows, settings, length, self._mesh
        return self._compiled(key, what, write_spread, *args)(self._decoder, heard, rows)

    def _compiled(self, key: Any, what: str, function: Any, *args: Any) -> Any:
        if key not in self._programs:
            self._on_compile(f"compiling {what}")
            begin = time.perf_counter()
            self._programs[key] = function.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[key]


def _side_by_side(
    prompts: Sequence[Sequence[int]], earlier: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Prompts that end in one place.

    Args:
        earlier: as `Recogniser.write` takes it.

    Returns:
        [rows, p] int32, and how many of its first positions hold nothing, [rows] int32, where
        earlier texts differ.
    """
    if earlier is None:
        return np.array(prompts, np.int32), None
    skipped = EARLIER - np.array(earlier, np.int32)
    filled = [[*[0] * skip, *each] for skip, each in zip(skipped, prompts, strict=True)]
    return np.array(filled, np.int32), skipped
