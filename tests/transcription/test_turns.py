"""Recordings that are read in turns."""

from collections import deque
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from whisfusion_jax.transcription.turns import in_turns


def read(lengths: list[int], come: list[int]) -> list[tuple[int, int]]:
    """What is read of recordings of some lengths, each asked for before so many items are read."""
    waiting = deque(sorted(zip(come, range(len(lengths)), strict=True)))
    found: list[tuple[int, int]] = []

    def opened(wait: bool) -> Iterator[tuple[int, int]] | None:
        if waiting and (wait or waiting[0][0] <= len(found)):
            number = waiting.popleft()[1]
            return iter([(number, item) for item in range(lengths[number])])
        return None

    for item in in_turns(opened):
        found.append(item)
    return found


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), max_size=8))
def test_all_is_read_once_and_each_in_order(recordings: list[tuple[int, int]]) -> None:
    lengths, come = [length for length, _ in recordings], [when for _, when in recordings]
    found = read(lengths, come)
    assert sorted(found) == [(n, i) for n, length in enumerate(lengths) for i in range(length)]
    for number in range(len(lengths)):
        own = [item for each, item in found if each == number]
        assert own == sorted(own)


def test_who_comes_later_waits_for_one_window_and_not_for_a_recording() -> None:
    found = read([100, 1, 3], [0, 10, 10])
    assert found[10:12] == [(1, 0), (2, 0)]
    assert found.index((2, 2)) < 18
