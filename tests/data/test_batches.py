"""From examples to training batches, by way of the encoder's states on disk."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import TINY, random_bundle, speechlike
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import TokenRules
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.batches import Plan, batches, evenly, load_batch
from whisfusion_jax.data.encoded import Encoded, Examples, encode, encode_examples
from whisfusion_jax.data.live import Live
from whisfusion_jax.data.sources import Example
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.parallel.mesh import Share
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.transcription.transcriber import Transcriber

TEXTS = ("Hello there.", "", "A much longer sentence than the others, it is.", "Ünïcode")


class Spoken:
    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> Example:
        return Example(speechlike(1 + number, number), TEXTS[number % 4])


class Repeated(Spoken):
    """Alike short examples, so that whole batches of them are encoded."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Example:
        return Example(speechlike(2, number), "Alike.")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = random_bundle(tmp_path_factory.mktemp("bundles") / "remembering", TINY)
    add_memory(bundle, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    return Bundle.open(bundle.path)


@pytest.fixture(scope="module")
def encoded(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encode_examples(Spoken(), bundle, tmp_path_factory.mktemp("encoded") / "set")


@pytest.fixture(scope="module")
def shortlist(bundle: Bundle) -> Shortlist:
    return Shortlist.of_texts(TEXTS, bundle.tokenizer)


def plan(encoded: Examples, **settings: Any) -> Plan:
    return Plan(encoded, **{"steps": 12, "positions": 192, "canvases": 2, **settings})


def test_texts_survive(encoded: Encoded, bundle: Bundle) -> None:
    assert len(encoded) == 10
    for number in range(10):
        *text, end = encoded.tokens(number).tolist()
        assert bundle.tokenizer.decode(text).strip() == TEXTS[number % 4]
        assert end == bundle.tokenizer.end


def test_what_whisper_hears_can_stand_for_the_text(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="no example"):
        encode_examples(Spoken(), bundle, tmp_path / "endless", heard=True)
    # Random weights that have little to say come to an end.
    few = {bundle.tokenizer.end, *range(100, 104)}
    rules = TokenRules(tuple(set(range(TINY.vocabulary)) - few), (bundle.tokenizer.end,))
    terse = random_bundle(tmp_path / "terse", TINY, rules=rules)
    add_memory(terse, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    terse = Bundle.open(terse.path)
    heard = encode_examples(Spoken(), terse, tmp_path / "heard", heard=True)
    assert len(heard) + len(heard.unreadable) == 10
    transcriber = Transcriber(terse, decoder="ar")
    segments = [transcriber.transcribe(Spoken()[n].samples).segments[0] for n in range(10)]
    sure = {tuple(each.tokens): each.avg_logprob for each in segments}
    for number in range(len(heard)):
        *text, end = heard.tokens(number).tolist()
        assert tuple(text) in sure
        assert end == bundle.tokenizer.end
    # Texts that it is less sure of than is asked are left out.
    texts = [heard.tokens(number).tolist() for number in range(len(heard))]
    least = min(sure[tuple(text[:-1])] for text in texts)
    surest = max(sure[tuple(text[:-1])] for text in texts)
    asked = partial(encode_examples, Spoken(), terse, heard=True)
    kept = asked(folder=tmp_path / "kept", heard_above=least - 0.01)
    assert [kept.tokens(number).tolist() for number in range(len(kept))] == texts
    with pytest.raises(WhisfusionError, match="no example"):
        asked(folder=tmp_path / "none", heard_above=surest + 0.01)


def test_states_do_not_depend_on_who_shares_the_batch(
    encoded: Encoded, bundle: Bundle, tmp_path: Path
) -> None:
    class Alone:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, number: int) -> Example:
            return Spoken()[3]

    alone = encode_examples(Alone(), bundle, tmp_path / "alone")
    np.testing.assert_allclose(alone.audio(np.array([0])), encoded.audio(np.array([3])), atol=2e-3)
    np.testing.assert_allclose(alone.teacher(0)[1], encoded.teacher(3)[1], atol=1e-3)


def test_live_examples_are_the_same_without_a_teacher(
    encoded: Encoded, bundle: Bundle, shortlist: Shortlist, tmp_path: Path
) -> None:
    live = Live(Spoken(), bundle, tmp_path / "examples.npz")
    assert [n.tolist() for n in plan(live).epoch(0)] == [n.tolist() for n in plan(encoded).epoch(0)]
    for numbers in plan(encoded).epoch(0)[:3]:
        expected, found = (load_batch(numbers, plan(each), shortlist) for each in (encoded, live))
        heard = encode(bundle.load_encoder(), bundle.load_memory(), found.audio).states
        frames = expected.audio.shape[1]
        np.testing.assert_allclose(heard[:, :frames], expected.audio, atol=2e-3)
        np.testing.assert_array_equal(found.prompt, expected.prompt)
        np.testing.assert_array_equal(found.targets.tokens, expected.targets.tokens)
        assert found.targets.teacher_probs is not None
        assert not found.targets.teacher_probs.any()


def test_live_examples_are_read_once_for_their_lengths(bundle: Bundle, tmp_path: Path) -> None:
    class Counted(Spoken):
        read = 0

        def __getitem__(self, number: int) -> Example:
            self.read += 1
            if number in (2, 7):
                raise AudioError(f"example {number} is damaged")
            return super().__getitem__(number)

    class Others(Spoken):
        def __getitem__(self, number: int) -> Example:
            return Example(super().__getitem__(number).samples, "Something else.")

    class Fewer(Spoken):
        def __len__(self) -> int:
            return 9

    source, path = Counted(), tmp_path / "run" / "examples.npz"
    first = Live(source, bundle, path)
    assert source.read == 10
    again = Live(source, bundle, path)
    assert source.read == 10
    assert again.unreadable == ["example 2 is damaged", "example 7 is damaged"]
    for number in range(8):
        np.testing.assert_array_equal(again.tokens(number), first.tokens(number))
    # Numbers are those of what can be read.
    np.testing.assert_allclose(again.audio(np.array([2]))[0, :100], Spoken()[3].samples[:100])
    assert [each.name for each in path.parent.iterdir()] == ["examples.npz"]
    with pytest.raises(WhisfusionError, match="of other data"):
        Live(Fewer(), bundle, path)
    with pytest.raises(WhisfusionError, match="of other data"):
        Live(Others(), bundle, path).audio(np.array([2]))


def test_an_epoch_has_every_example_and_equal_shapes(
    encoded: Encoded, shortlist: Shortlist
) -> None:
    whole = plan(encoded)
    seen: set[int] = set()
    for numbers in whole.epoch(0):
        seen.update(numbers.tolist())
        batch = load_batch(numbers, whole, shortlist)
        rows, canvas = batch.targets.tokens.shape
        assert rows == whole.audios(canvas)
        assert batch.audio.shape[0] == rows
        last = np.asarray(batch.targets.lengths) - 1
        assert (batch.targets.tokens[np.arange(rows), last] == shortlist.end).all()
        assert (batch.targets.teacher_probs.sum(-1) <= 1.001).all()
    assert seen == set(range(10))
    assert [n.tolist() for n in whole.epoch(0)] != [n.tolist() for n in whole.epoch(1)]


def test_languages_are_drawn_by_temperature() -> None:
    shares = np.repeat([1.0, 10.0], [1000, 10])  # a rare language ten times as often
    numbers = np.random.default_rng(0).permutation(1010)
    drawn = evenly(np.random.default_rng(1), numbers, shares)
    times = np.bincount(drawn, minlength=1010)
    assert len(drawn) == 1010
    assert times[:1000].max() <= 1
    assert 9 <= times[1000:].min() <= times[1000:].max() <= 10
    assert sorted(evenly(np.random.default_rng(1), numbers, np.ones(1010))) == list(range(1010))


def test_processes_share_each_batch(encoded: Encoded) -> None:
    whole = plan(encoded, share=Share(0, 4, 4))
    parts = [plan(encoded, share=share) for share in (Share(0, 3, 4), Share(3, 4, 4))]
    for step in range(len(whole)):
        numbers = whole.epoch(step // whole.batches)[step % whole.batches]
        shares = [part[step] for part in parts]
        assert len(shares[0]) == 3 * len(shares[1])
        np.testing.assert_array_equal(np.concatenate(shares), numbers)


def test_a_saved_pipeline_goes_on_where_it_stood(encoded: Encoded, shortlist: Shortlist) -> None:
    undisturbed = iter(batches(plan(encoded), shortlist))
    expected = [np.asarray(next(undisturbed).targets.tokens) for _ in range(8)]
    stopped = iter(batches(plan(encoded), shortlist))
    for _ in range(5):
        next(stopped)
    again = iter(batches(plan(encoded), shortlist))
    again.set_state(stopped.get_state())
    for tokens in expected[5:]:
        np.testing.assert_array_equal(next(again).targets.tokens, tokens)


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="nowhere: no encoded examples"):
        Encoded(tmp_path / "nowhere")


class KilledError(Exception):
    """The run ends here."""


def test_encoding_goes_on_where_it_was_killed(
    encoded: Encoded, bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "set"

    def until(most: int) -> Callable[[Sequence[int]], Iterator[int]]:
        def track(numbers: Sequence[int]) -> Iterator[int]:
            asked.append(len(numbers))
            for count, number in enumerate(numbers):
                if count == most:
                    raise KilledError
                yield number

        return track

    asked: list[int] = []
    many = Repeated(40)
    with pytest.raises(KilledError):
        encode_examples(many, bundle, folder, until(39))
    with pytest.raises(WhisfusionError, match="no encoded examples"):
        Encoded(folder)
    with pytest.raises(WhisfusionError, match="is of other data"):
        encode_examples(Repeated(41), bundle, folder)
    # What a run leaves that is killed while it writes.
    for states in folder.glob("*.states"):
        with states.open("ab") as file:
            file.write(b"torn")
    found = encode_examples(many, bundle, folder, until(40))
    assert asked == [40, 8]
    whole = encode_examples(many, bundle, tmp_path / "whole")
    for number in range(40):
        np.testing.assert_array_equal(found.tokens(number), whole.tokens(number))
        one = np.array([number])
        np.testing.assert_allclose(found.audio(one), whole.audio(one), atol=1e-3)
        for a, b in zip(found.teacher(number), whole.teacher(number), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-2)
    # A folder that is finished is only opened.
    encode_examples(many, bundle, folder, until(0))
