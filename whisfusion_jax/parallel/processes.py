"""Several processes that work on one thing."""

import jax

from whisfusion_jax.config import ProcessesConfig
from whisfusion_jax.errors import WhisfusionError


def join_processes(config: ProcessesConfig) -> None:
    """Find the others, before anything is computed; alone, do nothing.

    Raises:
        WhisfusionError: they don't answer.
    """
    if not config.find and config.coordinator is None:
        return
    try:
        jax.distributed.initialize(config.coordinator, config.count, config.number)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WhisfusionError(f"processes: can't find each other ({reason})") from None
