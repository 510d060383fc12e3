"""How devices and processes share the work."""

from dataclasses import dataclass

from whisfusion_jax.errors import WhisfusionError


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work; the axes multiply to their number."""

    data: int | None = None
    """Groups that have the whole model each and read rows of their own; None is as many as fit."""
    fsdp: int = 1
    """Devices of a group that the weights are spread over; each reads rows of its own, too."""
    tensor: int = 1
    """Devices that share the arithmetic of the same rows."""

    def __post_init__(self) -> None:
        if min(self.data or 1, self.fsdp, self.tensor) < 1:
            raise WhisfusionError(f"{self}: every axis must be at least 1")


ROWS = ("data", "fsdp")
"""Axes of the mesh that a batch's rows are spread over."""


@dataclass(frozen=True)
class ProcessesConfig:
    """How the processes of a run find each other; by default there is one."""

    find: bool = False
    """Ask Slurm, MPI, Kubernetes or the TPU's own environment."""
    coordinator: str | None = None
    """Instead: the first process's HOST:PORT, the same for all,"""
    count: int | None = None
    """how many there are,"""
    number: int | None = None
    """and which one this is, from 0."""

    def __post_init__(self) -> None:
        given = [self.coordinator is not None, self.count is not None, self.number is not None]
        if any(given) and (self.find or not all(given)):
            raise WhisfusionError(
                "processes: give coordinator, count and number, or find, or nothing"
            )
