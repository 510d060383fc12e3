"""An archive by many workers: Ray Data hands out the work, again where one has died."""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.places import in_bucket
from whisfusion_jax.transcription.archive import archive_lines
from whisfusion_jax.transcription.transcriber import Transcriber

_RECORDINGS = 64
"""That a worker is given at once: a few batches."""
_ACCELERATORS = ("GPU", "TPU")


class _Worker:
    """A transcriber that is compiled once, on a device of its own."""

    def __init__(self, make: Callable[[], Transcriber]) -> None:
        self._transcriber = make()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        utterances = [Utterance(**json.loads(each)) for each in batch["utterance"]]
        lines = archive_lines(self._transcriber, utterances)
        return {"line": [json.dumps(line) for line in lines]}


def archive_lines_on_ray(
    make: Callable[[], Transcriber],
    utterances: Sequence[Utterance],
    address: str,
    workers: int | None = None,
) -> Iterator[dict[str, Any]]:
    """`archive_lines` by workers, in order.

    Args:
        make: what each worker transcribes by; to be pickled.
        utterances: whose recordings all workers can read.
        address: of a Ray cluster; `auto` is the one that this machine belongs to, or else all of
            this machine.
        workers: without it one a GPU or TPU, or one of all cores.

    Raises:
        WhisfusionError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError:
        raise WhisfusionError("--ray needs whisfusion_jax[ray]") from None
    _connect(ray, address)
    if not utterances:  # of which Ray would make no parts
        return
    kind, devices = _devices(ray.cluster_resources())
    count = workers or devices
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [
        {"utterance": json.dumps(asdict(each) | {"audio": _anywhere(each.audio)})}
        for each in utterances
    ]
    cores = max(1, int(ray.cluster_resources()["CPU"]) // count)
    given: dict[str, dict[str, Any]] = {
        "GPU": {"num_gpus": 1},
        "TPU": {"resources": {"TPU": 1}},
        "CPU": {"num_cpus": cores},
    }
    parts = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // _RECORDINGS))
    written = parts.map_batches(
        _Worker,
        fn_constructor_args=(make,),
        batch_size=_RECORDINGS,
        compute=ray.data.ActorPoolStrategy(size=count),
        **given[kind],
    )
    texts = (text for batch in written.iter_batches(batch_size=None) for text in batch["line"])
    for utterance, text in zip(utterances, texts, strict=True):
        yield json.loads(text) | {"audio_filepath": utterance.audio}


def _anywhere(path: str) -> str:
    """The same recording from any working directory."""
    return path if in_bucket(path) else str(Path(path).resolve())


def _connect(ray: Any, address: str) -> None:
    if ray.is_initialized():
        return
    # Its processes' own words; what fails comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quietly = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "auto":
        _check(address)
    try:
        ray.init(address=address, **quietly)
    except ConnectionError as error:
        if address != "auto":
            raise WhisfusionError(f"--ray {address}: {error}") from None
        ray.init(**quietly)


def _check(address: str) -> None:
    """Ray itself would try for minutes, and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise WhisfusionError(f"--ray {address}: {error}") from None


def _devices(resources: dict[str, float]) -> tuple[str, int]:
    """The kind of what the cluster has, and how many of them."""
    for kind in _ACCELERATORS:
        if resources.get(kind):
            return kind, int(resources[kind])
    return "CPU", 1
