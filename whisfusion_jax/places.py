"""Where files lie: here, or in a bucket (gs://, s3://), which appends nothing and renames nothing.

What is read in many small parts, or grows, lies here first: a bucket's is brought into the cache
directory, and what was made of it is put there, the file that says it is whole last.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import fsspec
from etils import epath

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.wheels import cache_directory

_BUCKET = re.compile(r"^(gs|s3):/+")
_READERS = {"gs": "gcsfs", "s3": "s3fs"}
_FEW = 16_384
"""Letters that are never worth writing a file anew."""


def place(path: epath.PathLike) -> epath.Path:
    """A path of either kind; a bucket's may have lost a slash, as `pathlib` takes it away.

    Raises:
        WhisfusionError: what reads buckets is not installed.
    """
    text = _BUCKET.sub(r"\1://", os.fspath(path))
    if (bucket := _BUCKET.match(text)) and find_spec(_READERS[bucket[1]]) is None:
        raise WhisfusionError(f"{text}: needs whisfusion_jax[buckets]")
    return epath.Path(text)


def in_bucket(path: epath.PathLike) -> bool:
    """Whether it lies in a bucket."""
    return _BUCKET.match(os.fspath(path)) is not None


def files(path: epath.Path) -> Iterator[epath.Path]:
    """All in a directory and those in it, or the file itself."""
    if path.is_dir():
        for each in path.iterdir():
            yield from files(each)
    elif path.exists():
        yield path


def here(path: epath.PathLike) -> Path:
    """Where a bucket's file or directory lies in the cache, if it does; other paths as they are."""
    if not in_bucket(path):
        return Path(path)
    return cache_directory() / "buckets" / _BUCKET.sub(r"\1/", os.fspath(path))


def brought(path: epath.PathLike) -> Path:
    """A file or directory to read here: a bucket's is copied, but for what is the same already."""
    own = here(path)
    if in_bucket(path):
        source = place(path)
        with _known(own) as known:
            for file in files(source):
                name, version = str(file.relative_to(source)), _version(file)
                target = epath.Path(own) / name
                if not target.exists() or known.get(name, ("",))[0] != version:
                    _copy(file, target)
                    known[name] = version, _changed(target)
    return own


def put(path: epath.PathLike, last: str) -> None:
    """Copy what was made `here` into its bucket, what is there already not.

    Args:
        last: the file's name that says that all is there.
    """
    if not in_bucket(path):
        return
    own, target = epath.Path(here(path)), place(path)
    with _known(Path(own)) as known:
        for file in sorted(files(own), key=lambda each: each.name == last):
            name = str(file.relative_to(own))
            if known.get(name, ("", 0))[1] != _changed(file):
                _copy(file, target / name)
                known[name] = _version(target / name), _changed(file)


def replace(path: epath.PathLike, made: Path, last: str) -> None:
    """Put a directory in another's place: at once, or in a bucket file by file.

    Args:
        made: the directory; beside `path`, unless that lies in a bucket.
        last: as in `put`.
    """
    target = place(path)
    if not in_bucket(path):
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
        return
    if target.exists():
        target.rmtree()
    for file in sorted(files(epath.Path(made)), key=lambda each: each.name == last):
        _copy(file, target / file.relative_to(made))


@contextlib.contextmanager
def growing(path: epath.PathLike) -> Iterator[Callable[[str], None]]:
    """What puts text behind a file's; at the end all of it is there."""
    if in_bucket(path):
        file = _Rewritten(place(path))
        try:
            yield file.write
        finally:
            file.close()
        return
    with Path(path).open("a", encoding="utf-8") as opened:

        def write(text: str) -> None:
            opened.write(text)
            opened.flush()

        yield write


class _Rewritten:
    """In a bucket all is written anew, as often as an eighth has been added or a minute is over."""

    def __init__(self, path: epath.Path) -> None:
        self._path, self._new = path, ""
        self._text = path.read_text() if path.exists() else ""
        self._written = time.monotonic()

    def write(self, text: str) -> None:
        self._new += text
        minute_over = time.monotonic() > self._written + 60
        if len(self._new) > max(_FEW, len(self._text) // 8) or minute_over:
            self.close()

    def close(self) -> None:
        if self._new:
            self._text, self._new = self._text + self._new, ""
            self._path.write_text(self._text)
            self._written = time.monotonic()


def write(path: epath.PathLike, text: str) -> None:
    """Write a file anew; it is there when it is whole."""
    target = place(path)
    if in_bucket(path):
        target.write_text(text)
        return
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(target)


def cut(path: epath.PathLike, size: int) -> None:
    """Leave a file's first so many bytes: nothing of them is lost, whenever this is killed."""
    target = place(path)
    if in_bucket(path):
        target.write_bytes(target.read_bytes()[:size])
    else:
        os.truncate(target, size)


def append(path: epath.PathLike, text: str) -> None:
    """Put text behind a file's."""
    with growing(path) as write:
        write(text)


@contextlib.contextmanager
def _known(own: Path) -> Iterator[dict[str, tuple[str, int]]]:
    """Of what was copied, by name: the version there, and when it changed here; kept beside it."""
    path = own.with_name(f".{own.name}.copied.json")
    read = json.loads(path.read_text()) if path.exists() else {}
    known = {name: (str(version), int(changed)) for name, (version, changed) in read.items()}
    yield known
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(known))


def _version(file: epath.Path) -> str:
    """What changes with a bucket's file."""
    system, name = fsspec.core.url_to_fs(os.fspath(file))
    system.invalidate_cache()
    return str(system.checksum(name))


def _changed(file: epath.Path) -> int:
    return Path(file).stat().st_mtime_ns


def _copy(file: epath.Path, target: epath.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    if in_bucket(target):  # where a file appears when it is whole
        file.copy(target, overwrite=True)
    else:
        file.copy(aside, overwrite=True)
        aside.replace(target)
