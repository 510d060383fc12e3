import io
from pathlib import Path

from rich.console import Console

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.evaluation.report import Report, make_report
from whisfusion_jax.evaluation.steps import CURVE, Way, draw_curve, measure_curve, print_curve
from whisfusion_jax.transcription.transcript import Segment, Transcript


def report_by(way: Way) -> Report:
    """As if few steps lost a word."""
    steps = 12 if isinstance(way, str) else min(way.steps or 12, 12)
    text = "a b c d" if steps > 4 else "a b c"
    segment = Segment(0, 2, text, (), (), (), (), steps, 0.0, None)
    return make_report([Utterance("x", "a b c d")], [Transcript(text, "en", 2, (segment,), 1)])


def test_the_curve_has_every_rule(tmp_path: Path) -> None:
    points = measure_curve(report_by, drafts=True)
    assert [point.name for point in points] == [name for name, _ in CURVE]
    assert [(p.steps, p.wer) for p in points[:4]] == [(1, 0.25), (2, 0.25), (4, 0.25), (8, 0)]
    shown = io.StringIO()
    print_curve(points, Console(file=shown, width=80))
    assert "top_n, 4 steps" in shown.getvalue()
    assert "25.00" in shown.getvalue()


def test_without_a_head_nothing_is_repaired() -> None:
    points = measure_curve(report_by, drafts=False)
    repaired = [name for name, way in CURVE if isinstance(way, Repair)]
    assert len(points) == len(CURVE) - len(repaired)
    assert not {point.name for point in points} & set(repaired)


def test_a_picture_or_one_line(tmp_path: Path) -> None:
    from whisfusion_jax.errors import WhisfusionError

    points = measure_curve(report_by, drafts=True)
    try:
        draw_curve(points, tmp_path / "curve.png")
    except WhisfusionError as error:
        assert "whisfusion_jax[plots]" in str(error)  # noqa: PT017
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
