import re
from io import BytesIO
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.audio.bad_files import write_bad_files
from tests.audio.media import tone, write
from tests.conftest import SAMPLES
from tests.support import random_bundle, random_denoising_bundle, speechlike
from whisfusion_jax import Transcriber, Transcript
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import MemoryConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.sources import wordless
from whisfusion_jax.decoding.unmasking import RandomRemask, Threshold
from whisfusion_jax.errors import AudioError, BundleError, WhisfusionError
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.turns import Ask

CLIPS = [speechlike(seconds, seed) for seed, seconds in enumerate((2, 12, 1.2, 3, 5.4, 0.3))]


@pytest.fixture(scope="module")
def with_memory(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights with a padding memory."""
    bundle = random_bundle(tmp_path_factory.mktemp("bundles") / "remembering")
    return add_memory(bundle, [speechlike(4, seed=9), speechlike(3, seed=10)])


@pytest.fixture(scope="module")
def transcriber(with_memory: Bundle) -> Transcriber:
    return Transcriber(with_memory, batch_size=4)


@pytest.fixture(scope="module")
def denoising(with_memory: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundles") / "denoising"
    return random_denoising_bundle(with_memory, path)


@pytest.fixture(scope="module")
def by_diffusion(denoising: Bundle) -> Transcriber:
    # A random model is never sure.
    return Transcriber(denoising, batch_size=4, language="en", rule=Threshold(0.03))


either = pytest.mark.parametrize("name", ["transcriber", "by_diffusion"])


def texts(results: object) -> list[str]:
    return [result.text for result in results]  # type: ignore[attr-defined]


@either
def test_what_shares_a_batch_does_not_matter(name: str, request: pytest.FixtureRequest) -> None:
    transcriber = request.getfixturevalue(name)
    alone = [transcriber.transcribe(clip).text for clip in CLIPS]
    assert len(set(alone)) > 1
    assert texts(transcriber.transcribe_many(CLIPS)) == alone
    assert texts(transcriber.transcribe_many(CLIPS[::-1])) == alone[::-1]


def test_exact_writes_what_whisper_writes(
    transcriber: Transcriber, with_memory: Bundle, denoising: Bundle
) -> None:
    by_drafts = Transcriber(with_memory, decoder="exact", drafts=denoising, stretch=5)
    for found, expected in zip(
        by_drafts.transcribe_many(CLIPS), transcriber.transcribe_many(CLIPS), strict=True
    ):
        assert found.text == expected.text
        for own, whispers in zip(found.segments, expected.segments, strict=True):
            assert own.tokens == whispers.tokens
            assert own.confidences == pytest.approx(whispers.confidences, abs=1e-4)
            assert own.avg_logprob == pytest.approx(whispers.avg_logprob, abs=1e-4)
            assert own.no_speech_prob == pytest.approx(whispers.no_speech_prob, rel=1e-4)
            assert max(own.fixed_at) <= own.steps <= whispers.steps


@either
def test_a_second_batch_of_the_same_shape_compiles_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    transcriber = request.getfixturevalue(name)
    list(transcriber.transcribe_many(CLIPS))
    before = transcriber.recogniser.compile_seconds
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **kwargs: compiled.append(event) if "compile" in event else None
    )
    list(transcriber.transcribe_many([clip[::-1].copy() for clip in CLIPS]))
    assert transcriber.recogniser.compile_seconds == before
    assert not [event for event in compiled if "backend_compile" in event]


def test_segments_come_before_the_transcript(transcriber: Transcriber) -> None:
    long = np.concatenate([CLIPS[1]] * 6)
    whole = transcriber.transcribe(long)
    assert tuple(transcriber.segments(long)) == whole.segments
    found = list(transcriber.as_ready([CLIPS[0], Path("nosuch.wav"), long]))
    kinds = [type(each).__name__ for each in found]
    segments = ["Segment"] * len(whole.segments)
    assert kinds == ["Segment", "Transcript", "AudioError", *segments, "Transcript"]
    with pytest.raises(AudioError, match="no such file"):
        list(transcriber.segments("nosuch.wav"))


@either
def test_after_a_warm_up_nothing_compiles(name: str, request: pytest.FixtureRequest) -> None:
    own = request.getfixturevalue(name)
    transcriber = Transcriber(
        own.bundle,
        batch_size=3,
        batch_seconds=20,
        buckets=(10, 30),
        language="en",
        word_times=True,
    )
    transcriber.warm_up()
    before = transcriber.recogniser.compile_seconds
    assert before > 0
    list(transcriber.transcribe_many(CLIPS))
    assert transcriber.recogniser.compile_seconds == before


def test_files_bytes_and_arrays_are_alike(transcriber: Transcriber, tmp_path: Path) -> None:
    samples = tone(2, 16_000)
    path = write(tmp_path / "tone.flac", "flac", samples, 16_000)
    as_file = transcriber.transcribe(path)
    assert as_file.seconds == 2
    assert transcriber.transcribe(str(path)).text == as_file.text
    assert transcriber.transcribe(BytesIO(path.read_bytes())).text == as_file.text
    # flac holds 16 bits, so the array goes through them as well
    rounded = np.rint(samples[0] * 32768).astype(np.int16).astype(np.float32) / 32768
    assert transcriber.transcribe(rounded).text == as_file.text
    assert transcriber.transcribe(rounded.astype(np.float64)).text == as_file.text


def spoken(seconds: int) -> np.ndarray:
    """Real speech over and over."""
    clip = read_audio(SAMPLES / "LJ001-0002.flac")
    return np.resize(clip, seconds * 16_000)


def test_long_recordings_are_cut_into_windows(transcriber: Transcriber) -> None:
    result = transcriber.transcribe(spoken(70))
    assert result.seconds == 70
    assert len(result.segments) >= 4
    assert result.segments[0].start < 0.5
    assert result.segments[-1].end > 69.5
    for earlier, later in zip(result.segments, result.segments[1:], strict=False):
        assert earlier.end <= later.start
        # Halves, where random weights repeat themselves.
        assert 5 <= earlier.end - earlier.start <= 20.5
    assert result.text == " ".join(s.text for s in result.segments if s.text)


@either
def test_a_result_says_how_sure_it_is_and_when(name: str, request: pytest.FixtureRequest) -> None:
    transcriber = request.getfixturevalue(name)
    (segment,) = transcriber.transcribe(CLIPS[0]).segments
    assert segment.avg_logprob < 0
    assert all(token < 256 for token in segment.tokens)
    assert len(segment.tokens) == len(segment.confidences) == len(segment.fixed_at)
    assert all(0 < confidence <= 1 for confidence in segment.confidences)
    assert all(1 <= step <= segment.steps for step in segment.fixed_at)
    assert " ".join(word.text for word in segment.words).split() == segment.text.split()
    if name == "transcriber":
        assert segment.no_speech_prob is not None
        assert 0 <= segment.no_speech_prob <= 1
        assert segment.fixed_at == tuple(range(1, len(segment.tokens) + 1))
    else:
        assert segment.no_speech_prob is None
        assert segment.steps < len(segment.tokens)


def test_the_seed_decides_what_is_drawn(denoising: Bundle) -> None:
    def steps_with(seed: int) -> list[tuple[int, ...]]:
        # So long that no clip is cut: voice activity finds no speech in them.
        transcriber = Transcriber(denoising, rule=RandomRemask(), seed=seed, window=20)
        return [transcriber.transcribe(clip).segments[0].fixed_at for clip in CLIPS[:3]]

    first = steps_with(1)
    assert steps_with(1) == first
    assert steps_with(2) != first


def test_decoders_that_are_not_there_are_named(with_memory: Bundle, denoising: Bundle) -> None:
    with pytest.raises(BundleError, match="has no denoiser"):
        Transcriber(with_memory, decoder="diffusion")
    with pytest.raises(BundleError, match="has no pre-trained decoder"):
        Transcriber(denoising, decoder="ar")
    with pytest.raises(BundleError, match="has no denoiser"):
        Transcriber(with_memory, decoder="exact")
    assert Transcriber(denoising).bundle is denoising


def test_forty_bad_files_are_named_and_the_good_ones_transcribed(
    with_memory: Bundle, transcriber: Transcriber, tmp_path: Path
) -> None:
    bad = write_bad_files(tmp_path)
    assert len(bad) == 40
    good = write(tmp_path / "good.flac", "flac", tone(2, 16_000), 16_000)
    files = [file for each in bad for file in (each, good)]
    strict = Transcriber(with_memory, batch_size=4, strict=True)
    results = list(strict.transcribe_many(files))
    expected = transcriber.transcribe(good).text
    for (file, reason), failed, fine in zip(bad.items(), results[::2], results[1::2], strict=True):
        assert isinstance(failed, AudioError), file
        message = str(failed)
        assert "\n" not in message
        assert str(file) in message
        assert re.search(reason, message), message
        assert isinstance(fine, Transcript)
        assert fine.text == expected


def test_one_bad_recording_raises(transcriber: Transcriber) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        transcriber.transcribe("nowhere.wav")
    with pytest.raises(AudioError, match="not samples of sound"):
        transcriber.transcribe(np.zeros(16_000, bool))


def test_of_a_cut_recording_the_rest_is_transcribed_with_a_warning(
    transcriber: Transcriber, tmp_path: Path
) -> None:
    path = write(tmp_path / "cut.flac", "flac", tone(8, 16_000), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = transcriber.transcribe(path)
    assert 3 < result.seconds < 5
    assert result.warning is not None
    assert "of 8.0 s are there" in result.warning


def test_an_english_model_takes_english_only(transcriber: Transcriber) -> None:
    assert transcriber.transcribe(CLIPS[0], language="en").language is None
    with pytest.raises(WhisfusionError, match="English only, not 'de'"):
        transcriber.transcribe(CLIPS[0], language="de")


@pytest.mark.parametrize("settings", [{"beams": 0}, {"batch_size": 0}, {"buckets": (6, 10)}])
def test_settings_out_of_range_are_refused(settings: dict, with_memory: Bundle) -> None:
    with pytest.raises(WhisfusionError):
        Transcriber(with_memory, **settings)


def test_beams_give_a_text_as_likely_at_least(with_memory: Bundle) -> None:
    greedy = Transcriber(with_memory).transcribe(CLIPS[0]).segments[0]
    beam = Transcriber(with_memory, beams=3).transcribe(CLIPS[0]).segments[0]
    assert beam.avg_logprob >= greedy.avg_logprob - 1e-4


def test_bfloat16_runs(with_memory: Bundle) -> None:
    result = Transcriber(with_memory, dtype="bfloat16").transcribe(CLIPS[0])
    assert np.isfinite(result.segments[0].avg_logprob)


SPOKEN = {
    "LJ001-0002.flac": "in being comparatively modern.",
    "ast_vm-forward.flac": "Press 1 to enter an extension. Press 2 to use the directory.",
    "sb_spk1_snt4.flac": "A thin stripe runs down the middle.",
}


def test_real_weights_hear_real_speech(tiny_en: Bundle) -> None:
    transcriber = Transcriber(tiny_en)
    files = [str(SAMPLES / name) for name in SPOKEN]
    assert texts(transcriber.transcribe_many(files)) == list(SPOKEN.values())


@pytest.fixture(scope="module")
def shipped() -> Transcriber:
    return Transcriber.from_bundle("tiny.en")


def test_the_shipped_denoiser_hears_real_speech_in_fewer_steps(shipped: Transcriber) -> None:
    results = list(shipped.transcribe_many([str(SAMPLES / name) for name in SPOKEN]))
    words = normaliser_for("en")
    assert [words(text) for text in texts(results)] == [words(text) for text in SPOKEN.values()]
    segments = [result.segments[0] for result in results if isinstance(result, Transcript)]
    tokens = sum(len(segment.tokens) + 1 for segment in segments)
    assert sum(segment.steps for segment in segments) < 0.7 * tokens


@pytest.mark.parametrize("seconds", [0.5, 4])
def test_where_nobody_speaks_there_is_no_text(shipped: Transcriber, seconds: float) -> None:
    result = shipped.transcribe(np.zeros(int(seconds * 16_000), np.float32))
    assert result.text == ""
    assert result.segments[0].words == ()


@pytest.mark.parametrize("kind", ["silence", "white", "pink", "tones"])
def test_whisper_too_writes_nothing_where_nobody_speaks(tiny_en: Bundle, kind: str) -> None:
    sound = wordless(kind, 4, np.random.default_rng(3))
    (segment,) = Transcriber(tiny_en, decoder="ar").transcribe(sound).segments
    assert segment.text == ""
    assert segment.tokens == segment.words == ()
    assert segment.no_speech_prob is not None
    assert segment.no_speech_prob > 0.6


def test_a_recording_that_fits_is_one_window(by_diffusion: Transcriber, denoising: Bundle) -> None:
    clip = spoken(23)
    assert len(by_diffusion.transcribe(clip).segments) == 1
    shorter = Transcriber(denoising, language="en", window=9.5)
    lengths = [s.end - s.start for s in shorter.transcribe(clip).segments]
    assert 18 < sum(lengths) <= 23
    assert max(lengths) < 10.5
    with pytest.raises(WhisfusionError, match="windows of 4 s: more than 5 s and at most 30"):
        Transcriber(denoising, window=4)


def test_the_multilingual_model_names_the_language(base: Bundle) -> None:
    result = Transcriber(base).transcribe(SAMPLES / "LJ001-0018.flac")
    assert result.language == "en"
    assert "black letter" in result.text.lower()
    with pytest.raises(WhisfusionError, match="'klingon' is unknown; known are: af am"):
        Transcriber(base, language="klingon")


def test_what_ships_for_base_drafts_for_it(base: Bundle) -> None:
    clip = SAMPLES / "LJ001-0018.flac"
    greedy = Transcriber(base, decoder="ar").transcribe(clip)
    exact = Transcriber.from_bundle("base", decoder="exact").transcribe(clip)
    assert exact.segments[0].tokens == greedy.segments[0].tokens
    assert exact.steps < 0.8 * greedy.steps


def test_buckets_that_a_memory_does_not_fit_are_left_out(tmp_path: Path) -> None:
    """Pooled by 2 s from 6 s on, it can follow 10 s and 20 s, but not 15 s."""
    bundle = add_memory(random_bundle(tmp_path / "tiny"), [speechlike(4)], MemoryConfig(pool=100))
    compiled: list[str] = []
    transcriber = Transcriber(bundle, on_compile=compiled.append)
    transcriber.transcribe(speechlike(12))
    assert compiled == [
        "compiling the encoder, windows of 20 s",
        "compiling the decoder, up to 20 s, 1 at once",
    ]


def test_buckets_and_batches_of_all_sizes_share_a_decoder(tmp_path: Path) -> None:
    bundle = add_memory(random_bundle(tmp_path / "tiny"), [speechlike(4)], MemoryConfig())
    compiled: list[str] = []
    transcriber = Transcriber(bundle, batch_size=4, on_compile=compiled.append)
    clips = [speechlike(seconds) for seconds in (4, 8, 5, 9, 3)]
    together = list(transcriber.transcribe_many(clips))
    assert sorted(compiled) == [
        "compiling the decoder, up to 10 s, 4 at once",
        "compiling the encoder, windows of 10 s",
        "compiling the encoder, windows of 6 s",
    ]
    alone = [transcriber.transcribe(clip) for clip in clips]
    assert [each.segments[0].tokens for each in together] == [
        each.segments[0].tokens for each in alone
    ]


@pytest.mark.parametrize("decoder", ["ar", "exact", "diffusion"])
def test_an_initial_prompt_gives_the_style(decoder: DecoderName) -> None:
    file = SAMPLES / "LJ001-0018.flac"
    prompt = "the first bokes were prynted in blacke letter"
    settings = {"decoder": decoder, "word_times": True, "batch_size": 4}
    prompted = Transcriber.from_bundle("tiny.en", initial_prompt=prompt, **settings)
    found = prompted.transcribe(file)
    # Each may have its own, of any length, and shares a batch with others.
    transcriber = Transcriber.from_bundle("tiny.en", **settings)
    prompts = iter(["Quetzalcoatl, Xerxes. " * 30, prompt, None])

    def asked(wait: bool) -> Ask | None:
        given = next(prompts, "")
        return None if given == "" else Ask(file, earlier=transcriber.prompts.earlier(given))

    own = dict(transcriber.as_finished(asked, patience=0.1))
    for number, alike in ((1, found), (2, transcriber.transcribe(file))):
        same = own[number]
        assert isinstance(same, Transcript)
        assert same.text == alike.text
        assert [word.start for word in same.words] == [word.start for word in alike.words]
    assert len({found.text for found in own.values() if isinstance(found, Transcript)}) > 1
    # No comma, as in the prompt.
    assert found.text.startswith("The first books were printed in")
    assert "letter i.e." in found.text
    assert found.words[0].start is not None
    assert found.words[0].start < 0.5
    assert 6 < found.words[-1].end < 7.6


def test_an_initial_prompt_is_spelled_by_what_a_shortlist_has(tmp_path: Path) -> None:
    whisper = Bundle.open(find_bundle("tiny.en", whole=True))
    few = random_denoising_bundle(whisper, tmp_path / "few")
    prompted = Transcriber(few, decoder="diffusion", initial_prompt="Guantanamo")
    assert (
        len(prompted.prompts.earlier("Guantanamo"))
        > len(whisper.tokenizer.encode(" Guantanamo")) + 1
    )
    assert prompted.transcribe(speechlike(2)).seconds == 2


@pytest.mark.usefixtures("tiny_en")
@pytest.mark.parametrize("batch_size", [1, 4])
def test_exact_writes_on_from_words_that_stand(batch_size: int) -> None:
    exact = Transcriber.from_bundle("tiny.en", decoder="exact", batch_size=batch_size)
    file = SAMPLES / "LJ001-0018.flac"
    (whole,) = exact.transcribe(file).segments
    counts = [0, 5, 12, len(whole.tokens)]
    asks = iter([Ask(file, standing=whole.tokens[:count]) for count in counts])
    for number, found in exact.as_finished(lambda wait: next(asks, None), patience=0.5):
        if not isinstance(found, Transcript):
            continue
        (segment,), count = found.segments, counts[number]
        assert segment.tokens == whole.tokens
        assert segment.confidences[:count] == (1,) * count
        assert segment.fixed_at[:count] == (0,) * count
        assert segment.steps <= whole.steps
        assert segment.steps == 1 or count < len(whole.tokens)
