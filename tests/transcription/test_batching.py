"""Windows of many recordings into batches, and their texts back in order."""

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.audio.windows import Window
from whisfusion_jax.transcription.batching import BatchSize, in_batches, read_ahead
from whisfusion_jax.transcription.pieces import Piece, Recording
from whisfusion_jax.transcription.transcript import Segment


def segment(text: str) -> Segment:
    return Segment(0, 1, text, (), (), (), (), 1, 0.0, None)


class Hearing:
    """Pieces that are heard at once."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def reading(buckets: Sequence[Sequence[int]], language: str | None) -> Iterator[Piece | Recording]:
    """Recordings, each of windows that belong into some buckets."""
    for number, own in enumerate(buckets):
        recording = Recording(number, language)
        for place, bucket in enumerate(own):
            recording.windows += 1
            yield Piece(recording, place, Window(((0, 1),)), np.zeros(1), bucket)
        recording.whole = True
        yield recording


several = st.lists(st.lists(st.sampled_from([6, 10, 30]), max_size=30), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    buckets=several,
    size=st.builds(
        BatchSize, st.integers(1, 4), st.sampled_from([5.0, 20.0, math.inf]), st.integers(1, 2)
    ),
    hears=st.booleans(),
)
def test_segments_come_back_in_order(
    buckets: list[list[int]], size: BatchSize, hears: bool
) -> None:
    batches: list[list[Piece]] = []

    def recognise(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        assert heard.pieces is pieces
        batches.append(list(pieces))
        assert len({piece.bucket for piece in pieces}) == 1
        for piece in pieces:
            if hears and piece.number:
                assert piece.recording.language == "de"  # its first window has been heard
            piece.recording.language = "de"
            piece.recording.segments[piece.number] = (segment(str(piece.number)),)
        return []

    found = [
        (recording.number, given and given.text)
        for recording, given in in_batches(reading(buckets, None), Hearing, recognise, size, hears)
    ]
    expected = []
    for number, own in enumerate(buckets):
        expected += [*((number, str(place)) for place in range(len(own))), (number, None)]
    assert found == expected
    for batch in batches:
        each = -(-len(batch) // size.shards)
        assert each <= size.windows
        assert each == 1 or each * batch[0].bucket <= size.seconds


@settings(max_examples=60, deadline=None)
@given(buckets=several, size=st.integers(1, 4), hears=st.booleans())
def test_without_an_order_each_recordings_segments_are_in_theirs(
    buckets: list[list[int]], size: int, hears: bool
) -> None:
    def recognise(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        for piece in pieces:
            piece.recording.language = "de"
            piece.recording.segments[piece.number] = (segment(str(piece.number)),)
        return []

    found: dict[int, list[str | None]] = {}
    read = reading(buckets, None)
    for recording, one in in_batches(
        read, Hearing, recognise, BatchSize(size), hears, in_order=False
    ):
        found.setdefault(recording.number, []).append(one and one.text)
    assert found == {
        number: [*(str(place) for place in range(len(own))), None]
        for number, own in enumerate(buckets)
    }


def order_of(recordings: Sequence[Recording], counts: Sequence[int]) -> list[tuple[int, int]]:
    """In which windows are written, so many of each, that are all there."""
    written: list[tuple[int, int]] = []

    def read() -> Iterator[Piece | Recording]:
        for recording, count in zip(recordings, counts, strict=True):
            for place in range(count):
                recording.windows += 1
                yield Piece(recording, place, Window(((0, 1),)), np.zeros(1), 10)
            recording.whole = True
            yield recording

    def recognise(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        for piece in pieces:
            written.append((piece.recording.number, piece.number))
            piece.recording.segments[piece.number] = (segment(""),)
        return []

    everything = list(read())
    for recording in recordings:
        recording.windows, recording.whole = 0, False

    def at_once() -> Iterator[Piece | Recording]:
        for item in everything:
            if isinstance(item, Piece):
                item.recording.windows += 1
            else:
                item.whole = True
            yield item

    found = list(
        in_batches(
            at_once(), Hearing, recognise, BatchSize(20), False, in_order=False, patience=0.5
        )
    )
    ended = sorted(recording.number for recording, given in found if given is None)
    assert ended == [recording.number for recording in recordings]
    return written


def test_urgent_and_first_windows_go_first() -> None:
    written = order_of(
        [Recording(0, "en"), Recording(1, "en"), Recording(2, "en", urgent=True)], (9, 2, 1)
    )
    assert written[0] == (2, 0)
    assert written.index((1, 1)) < written.index((0, 2))


def test_many_short_recordings_hold_a_long_one_up_for_a_while_only() -> None:
    written = order_of([Recording(number, "en") for number in range(40)], (3, *[1] * 39))
    assert written.index((2, 0)) < written.index((0, 1)) < written.index((20, 0))
    assert written.index((0, 2)) < written.index((39, 0))


def test_batches_are_full_but_for_the_last() -> None:
    sizes: list[int] = []

    def recognise(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        assert heard.pieces is pieces
        sizes.append(len(pieces))
        for piece in pieces:
            piece.recording.segments[piece.number] = (segment(""),)
        return []

    list(
        in_batches(
            reading([[10] * 7, [10], [10] * 10], "en"), Hearing, recognise, BatchSize(4), False
        )
    )
    assert sizes == [4, 4, 4, 4, 2]


def test_memory_holds_a_few_batches() -> None:
    read, most = 0, 0

    def endless() -> Iterator[Piece | Recording]:
        nonlocal read
        for piece in reading([[10] * 500], "en"):
            read += 1
            yield piece

    recognised = 0

    def recognise(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        assert heard.pieces is pieces
        nonlocal recognised, most
        time.sleep(0.002)
        most = max(most, read - recognised)
        recognised += len(pieces)
        for piece in pieces:
            piece.recording.segments[piece.number] = (segment(""),)
        return []

    assert len(list(in_batches(endless(), Hearing, recognise, BatchSize(4), False))) == 501
    assert most <= 9 * 4 + 2


def test_one_batch_is_heard_while_another_is_written_and_left_with_it() -> None:
    begun: list[Hearing] = []

    def hear(pieces: Sequence[Piece]) -> Hearing:
        begun.append(Hearing(pieces))
        return begun[-1]

    def write(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        assert begun[-2] is heard
        for piece in pieces:
            piece.recording.segments[piece.number] = (segment(""),)
        return []

    found = in_batches(reading([[10] * 40], "en"), hear, write, BatchSize(4), False)
    next(found)
    found.close()
    assert [each.cancelled for each in begun] == [False] * (len(begun) - 1) + [True]


def test_what_is_read_slowly_is_not_waited_for() -> None:
    recording = Recording(0, "en")

    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.3)
        yield 2

    assert list(read_ahead(slow(), 4, 0.05)) == [1, None, 2]
    assert recording.finished is False


def test_errors_of_the_reading_thread_are_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    found = read_ahead(broken(), 4, 5)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_reader_that_is_left_ends() -> None:
    read: list[int] = []

    def counting() -> Iterator[int]:
        for number in range(10_000):
            read.append(number)
            yield number

    found = read_ahead(counting(), 4, 5)
    next(found)
    found.close()
    assert len(read) < 20


def test_what_waits_for_a_neighbour_in_vain_is_not_lost() -> None:
    def write(pieces: Sequence[Piece], heard: Hearing) -> list[Piece]:
        for piece in pieces:
            piece.recording.written[piece.number] = (segment("the last"),)
        return []

    found = [
        given and given.text
        for _, given in in_batches(reading([[10]], "en"), Hearing, write, BatchSize(4), False)
    ]
    assert found == ["the last", None]
