"""From examples to training batches, by way of the encoder's states on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import TINY, random_bundle, speechlike
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.batches import Plan, batches, load_batch
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
    heard = encode_examples(Spoken(), bundle, tmp_path / "heard", heard=True)
    transcriber = Transcriber(bundle, decoder="ar")
    for number in (0, 4):
        (segment,) = transcriber.transcribe(Spoken()[number].samples).segments
        assert heard.tokens(number).tolist() == [*segment.tokens, bundle.tokenizer.end]


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
        expected, found = (load_batch(numbers, each, shortlist) for each in (encoded, live))
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
        batch = load_batch(numbers, encoded, shortlist)
        rows, canvas = batch.targets.tokens.shape
        assert rows == whole.audios(canvas)
        assert batch.audio.shape[0] == rows
        last = np.asarray(batch.targets.lengths) - 1
        assert (batch.targets.tokens[np.arange(rows), last] == shortlist.end).all()
        assert (batch.targets.teacher_probs.sum(-1) <= 1.001).all()
    assert seen == set(range(10))
    assert [n.tolist() for n in whole.epoch(0)] != [n.tolist() for n in whole.epoch(1)]


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
