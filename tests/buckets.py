"""Buckets that are not there: emulators of Google's and Amazon's, each a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.parallel.launch import ROOT

BUCKET = "whisfusion"
KINDS = ("gs", "s3")


@contextmanager
def emulated(kind: str) -> Iterator[str]:
    """Give the address of an empty bucket, `gs://...` or `s3://...`, and set what leads there."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}"
    if kind == "gs":
        command = ["-m", "tests.gcs_emulator", str(port), BUCKET]
        leads = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "FSSPEC_GS_TOKEN": "anon",
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GCE_METADATA_ROOT": "localhost:1",  # nobody asks a machine of Google's who it is
            "GCE_METADATA_HOST": "localhost:1",
        }
    else:
        command = ["-m", "moto.server", "-p", str(port)]
        leads = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    server = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = dict(os.environ)
    os.environ.update(leads)
    try:
        _wait(url, server)
        if kind == "s3":
            made = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
            urllib.request.urlopen(made).close()
        yield f"{kind}://{BUCKET}"
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return
