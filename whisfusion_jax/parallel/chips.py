"""What accelerators can do, by their makers' own figures."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chip:
    """One device, as JAX counts them."""

    name: str
    flops: float
    """A second, dense, bfloat16."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes a second, of the memory."""
    links: float
    """Bytes a second to other chips nearby, one way, all links together."""


CHIPS = {
    # cloud.google.com/tpu/docs/v5e, /v5p, /v6e: per chip; interchip bandwidth is given both ways.
    "TPU v5 lite": Chip("TPU v5e", 197e12, 16e9, 819e9, 100e9),
    "TPU v5": Chip("TPU v5p", 459e12, 95e9, 2765e9, 300e9),
    "TPU v6 lite": Chip("TPU v6e", 918e12, 32e9, 1640e9, 224e9),
    # nvidia.com/en-us/data-center/h100, /h200, /a100: SXM; NVLink is given both ways.
    "NVIDIA H100": Chip("H100", 989e12, 80e9, 3350e9, 450e9),
    "NVIDIA H200": Chip("H200", 989e12, 141e9, 4800e9, 450e9),
    "NVIDIA A100-SXM4-80GB": Chip("A100", 312e12, 80e9, 2039e9, 300e9),
}


def chip_of(device: Any) -> Chip | None:
    """A device's chip, or None if its figures are not known."""
    kind = device.device_kind
    exact = CHIPS.get(kind)
    return exact or next(
        (chip for name, chip in CHIPS.items() if kind.startswith(name + " ")), None
    )
