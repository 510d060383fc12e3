"""What `pip install whisfusion_jax` gives to someone who has no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import SAMPLES
from whisfusion_jax.bundle import Bundle

ROOT = SAMPLES.parent
UNTRACKED = {".git", ".venv", "build", "dist", "runs", "data", "whisfusion_jax.egg-info"}


def _run(*command: str | Path, cwd: Path) -> str:
    # Nothing may be found by way of the checkout.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(kind: str, tree: Path, out: Path) -> Path:
    _run(sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", out, cwd=tree)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    work = tmp_path_factory.mktemp("sdist")

    def untracked(folder: str, names: list[str]) -> set[str]:
        return UNTRACKED & set(names) if Path(folder) == ROOT else set()

    # What an earlier build left in the checkout would be packed again.
    tree = shutil.copytree(ROOT, work / "tree", ignore=untracked)
    with tarfile.open(_build("--sdist", tree, work / "made")) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("--wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's programs: the wheel, and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    installed = _run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    # The dependencies of this environment, without what it has in editable form.
    Path(installed.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    _run(
        python,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--ignore-installed",
        "--no-deps",
        wheel,
        cwd=folder,
    )
    return folder / "bin"


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "whisfusion_jax"
    wanted = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_an_installed_wheel_transcribes_by_each_decoder(
    environment: Path, tiny_en: Bundle, tmp_path: Path
) -> None:
    script = "import whisfusion_jax; print(whisfusion_jax.__file__)"
    where = _run(environment / "python", "-c", script, cwd=tmp_path)
    assert str(environment.parent) in where
    clip = SAMPLES / "ast_vm-forward.flac"
    for decoder in ("ar", "exact", "diffusion"):
        text = _run(
            environment / "whisfusion", "transcribe", clip, "--decoder", decoder, cwd=tmp_path
        )
        assert "extension" in text.lower(), decoder
