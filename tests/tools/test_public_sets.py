"""The list of public sets."""

import pytest

from tools.prepare_speech.public_sets import SETS, shares, show

ELEVEN = ["de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "zh"]


def test_every_language_is_drawn_by_the_root_of_its_hours() -> None:
    as_many, by_root = shares(1.0), shares(0.5)
    assert list(by_root) == ELEVEN
    assert sum(by_root.values()) == pytest.approx(1)
    assert by_root["en"] / by_root["ja"] == pytest.approx((as_many["en"] / as_many["ja"]) ** 0.5)


def test_each_is_listed_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    listed = capsys.readouterr().out
    assert all(each.source in listed and each.prepare in listed for each in SETS)
