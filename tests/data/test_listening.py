"""Speech in the device's memory: cuts of it, made to sound otherwise, and what Whisper hears."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.tiny import WORDS, spoken, tiny_run, write_wave
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import CtcConfig
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.data.listening import CutPlan, Cuts, Listener, Speech
from whisfusion_jax.data.sources import Listed
from whisfusion_jax.data.varied import varied
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.shortlist import Shortlist


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("listening")
    return Bundle.open(tiny_run(folder).bundle)


@pytest.fixture(scope="module")
def speech(bundle: Bundle) -> Speech:
    manifest = Path(bundle.path).parent / "manifest.jsonl"
    (manifest.parent / "1.wav").write_bytes(b"no sound")
    return Speech.of(Listed(manifest), bundle.tokenizer, bundle.config.model)


def plan(speech: Speech, head: CtcConfig | None = None) -> CutPlan:
    return CutPlan(speech, 50, 64 * 4, 1, 0, 0.5, 0.5, 0.2, head)


def test_speech_lies_one_utterance_behind_the_other(speech: Speech) -> None:
    assert len(speech.begins) == len(WORDS)
    assert "1.wav" in speech.unreadable[0]
    first = speech.samples[speech.begins[1] : speech.begins[1] + 24_000]
    np.testing.assert_allclose(first / 32767, spoken(2), atol=1e-4)


def test_cuts_are_drawn_anew_for_each_step_and_the_same_each_time(speech: Speech) -> None:
    drawn = [plan(speech)[step] for step in range(20)]
    again = plan(speech)[7]
    assert (again.begin == drawn[7].begin).all()
    assert (again.speed == drawn[7].speed).all()
    assert {cut.bucket for cut in drawn} == {6, 10, 15, 30}
    lengths = np.concatenate([cut.length for cut in drawn])
    assert (lengths == 0).any()
    assert (lengths > 30_000).any()
    for cut in drawn:
        assert (cut.begin + cut.length <= speech.begins[-1]).all()
        assert (cut.length / cut.speed <= cut.bucket * 16_000 + 1).all()


def test_batches_that_are_kept_come_again_in_another_order(speech: Speech) -> None:
    kept = dataclasses.replace(plan(speech), batches=5)
    assert [kept.number(step) for step in range(5)] == list(range(5))
    rounds = [[kept.number(5 * around + at) for at in range(5)] for around in range(1, 9)]
    assert all(sorted(each) == list(range(5)) for each in rounds)
    assert len({tuple(each) for each in rounds}) > 4
    again = rounds[0].index(2)
    assert (kept[5 + again].begin == kept[2].begin).all()


def test_what_is_not_made_harder_is_the_speech_itself() -> None:
    samples = jnp.asarray((spoken(0) * 32767).astype(np.int16))
    rows = [np.array([0, 100, 0]), np.array([24_000, 8000, 0])]
    sound = varied(
        samples, *rows, np.array([1, 2, 1.0], np.float32), np.array([False, False, True]), 6,
        jax.random.key(0),
    )  # fmt: skip
    assert sound.shape == (3, 96_000)
    np.testing.assert_allclose(sound[0, :24_000], spoken(0), atol=1e-4)
    assert not sound[0, 24_000:].any()
    np.testing.assert_allclose(sound[1, :4000], spoken(0)[100:8100:2], atol=1e-4)
    assert not sound[1, 4000:].any()
    assert float((sound[2] != 0).mean()) > 0.99  # noise


def test_harder_speech_is_other_than_clean_and_as_loud() -> None:
    rows = 32
    samples = jnp.asarray((spoken(1) * 32767).astype(np.int16))
    cut = np.zeros(rows, np.int32), np.full(rows, 24_000), np.ones(rows, np.float32)
    sound = varied(samples, *cut, np.ones(rows, bool), 6, jax.random.key(1))
    assert bool(jnp.isfinite(sound).all())
    off = jnp.abs(sound[:, :24_000] - spoken(1)).max(1)
    assert float(off.min()) > 1e-3
    level = jnp.sqrt(jnp.square(sound[:, :24_000]).mean(1))
    assert 0.02 < float(level.min()) < float(level.max()) < 2


@pytest.mark.parametrize("of_pieces", [True, False])
def test_the_text_is_what_whisper_writes(bundle: Bundle, speech: Speech, of_pieces: bool) -> None:
    tokenizer, config = bundle.tokenizer, bundle.config
    head = CtcConfig.of_whisper(config.model) if of_pieces else None
    whisper, memory = bundle.load_whisper(), bundle.load_memory()
    assert memory is not None
    vocabulary = Vocabulary(config.rules, tokenizer.end, tokenizer.no_speech)
    pieces = Shortlist.of_texts([], tokenizer, 256 if of_pieces else 50_000)
    listener = Listener.of(
        jnp.asarray(speech.samples), whisper.encoder, whisper.decoder, memory, vocabulary,
        pieces, head, 0,
    )  # fmt: skip
    begins = speech.begins[:3].astype(np.int32)
    cuts = Cuts(
        begins, np.array([24_000, 20_000, 0], np.int32), np.ones(3, np.float32),
        np.zeros(3, bool), speech.prompts[:3], 10,
    )  # fmt: skip
    batch = listener(cuts, 0)
    sound = np.zeros((3, 160_000), np.float32)
    for row, (begin, length) in enumerate(zip(begins, cuts.length, strict=True)):
        sound[row, :length] = speech.samples[begin : begin + length] / 32768
    audio = encode(whisper.encoder, memory, sound)
    np.testing.assert_allclose(batch.audio, audio.states[:, :500], atol=2e-3)
    decoder, prompts = whisper.decoder, speech.prompts[:3]
    cross = decoder.cross_cache(audio)
    written = decode_greedily(decoder, cross, prompts, vocabulary, canvas_for(10))
    for row, own in enumerate(np.asarray(written.tokens).tolist()):
        length, tokens = int(batch.targets.lengths[row]), np.asarray(batch.targets.tokens)[row]
        if not cuts.length[row]:
            assert length == 1
            assert tokens[0] == pieces.end
        elif tokenizer.end not in own:
            assert length == len(tokens) + 1  # more than any moments hold
        else:
            expected = pieces.respell(own[: own.index(tokenizer.end)])[: len(tokens)]
            assert tokens[: len(expected)].tolist() == expected


def test_nothing_to_read_is_said(bundle: Bundle, tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", np.zeros(0, np.float32))
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(WhisfusionError, match="no example that can be read"):
        Speech.of(Listed(tmp_path / "m.jsonl"), bundle.tokenizer, bundle.config.model)
