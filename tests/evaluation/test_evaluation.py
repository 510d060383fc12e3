import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support import manifest
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.evaluation.error_rates import (
    NONE,
    bootstrap_interval,
    character_errors,
    word_errors,
)
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.transcription.transcript import Transcript

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join)


def transcript(text: str, seconds: float = 2, compute: float = 0.5) -> Transcript:
    return Transcript(text, "en", seconds, (), compute)


def test_counts_edits() -> None:
    errors = word_errors("the cat sat down on a mat", "so the cat sit down on mat")
    assert (errors.substitutions, errors.deletions, errors.insertions) == (1, 1, 1)
    assert errors.rate == pytest.approx(3 / 7)
    assert character_errors("abc", "abd").rate == pytest.approx(1 / 3)
    assert word_errors("", "two words").rate == 2
    assert word_errors("", "").rate == 0


@given(reference=WORDS, hypothesis=WORDS)
def test_edits_are_a_distance(reference: str, hypothesis: str) -> None:
    there, back = word_errors(reference, hypothesis), word_errors(hypothesis, reference)
    assert there.edits == back.edits
    assert (there.edits == 0) == (reference == hypothesis)
    assert there.words == len(reference.split())


@settings(max_examples=20, deadline=None)
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
def test_the_interval_is_around_the_rate(pairs: list[tuple[str, str]]) -> None:
    errors = [word_errors(*pair) for pair in pairs]
    low, high = bootstrap_interval(errors)
    assert 0 <= low <= high
    assert bootstrap_interval(errors) == (low, high)


def test_equal_utterances_have_no_interval() -> None:
    errors = word_errors("a b", "a")
    assert bootstrap_interval([errors] * 5) == (0.5, 0.5)


def test_a_report_pools_words_and_seconds() -> None:
    utterances = [
        Utterance("a.wav", "One red apple, please!", "en", "ann"),
        Utterance("b.wav", "Mister", "en", "bob"),
        Utterance("c.wav", "lost", "en", "bob"),
    ]
    transcripts = [
        transcript("One read apple, please.", 9, 1),
        transcript("Mr.", 1, 1),
        AudioError("c.wav: the file is empty"),
    ]
    report = make_report(utterances, transcripts, lambda: 3.0)
    data = json.loads(report.to_json())
    summary = data["summary"]
    assert summary["wer"] == pytest.approx(1 / 5)  # pooled over words, not a mean of rates
    assert summary["rtfx"] == pytest.approx(10 / 2)  # a ratio of sums
    assert (summary["substitutions"], summary["deletions"], summary["insertions"]) == (1, 0, 0)
    assert summary["compile_seconds"] == 3
    assert data["by_speaker"]["ann"]["wer"] == pytest.approx(1 / 4)
    assert data["by_speaker"]["bob"]["wer"] == 0
    assert data["failures"] == ["c.wav: the file is empty"]
    assert data["utterances"][0]["hypothesis"] == "one read apple please"

    shown = io.StringIO()
    report.print(Console(file=shown, width=120))
    for expected in ("20.00", "speaker ann", "one read apple please", "c.wav: the file is empty"):
        assert expected in shown.getvalue()


def test_groups_of_languages_are_judged_by_their_means() -> None:
    said = [("de", "eins zwei drei vier", "eins zwei drei"), ("fr", "un deux", "un deux"),
            ("zh", "你好世界", "你好世"), ("en", "one two", "one two")]  # fmt: skip
    report = make_report(
        [Utterance("x", text, language) for language, text, _ in said],
        [transcript(found) for *_, found in said],
    )
    by_group = report.to_dict()["by_group"]
    assert by_group["English"] == 0
    assert by_group["European"] == pytest.approx(1 / 8)  # of a quarter and of nothing
    assert by_group["Chinese, Japanese, Korean"] == pytest.approx(1 / 4)  # on characters


def test_nothing_readable_is_an_error() -> None:
    with pytest.raises(WhisfusionError, match="nothing to score"):
        make_report([Utterance("a.wav", "x")], [AudioError("a.wav: no such file")])


def test_sums_start_at_none() -> None:
    assert sum([word_errors("a", "a"), word_errors("a b", "b")], NONE).words == 3


def test_manifest_paths_are_beside_it(tmp_path: Path) -> None:
    rows = [{"audio": "x/a.wav", "text": "hi", "speaker": "s", "more": 1}]
    (utterance,) = read_manifest(manifest(tmp_path / "m.jsonl", rows))
    assert utterance == Utterance(str(tmp_path / "x/a.wav"), "hi", None, "s")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no utterance"),
        ('{"audio": "a"}', "m.jsonl:1: lacks 'text'"),
        ('{"audio": "a", "text": "b"}\nnonsense', "m.jsonl:2: "),
        ('{"audio": 1, "text": "b"}', "must be strings"),
        ("[1]", "m.jsonl:1: "),
    ],
)
def test_wrong_manifests_are_named(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(WhisfusionError, match=reason):
        read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="No such file"):
        read_manifest(tmp_path / "m.jsonl")
