"""Train a denoiser, or go on where the run stopped.

python train.py --config configs/tiny_en.py
python train.py --config configs/tiny_en.py --optimizer.rate 1e-3 --work runs/faster
"""

import sys
from pathlib import Path

import jax
import tyro

from whisfusion_jax.cli import keep_compiled_programs, run
from whisfusion_jax.config import TrainConfig, read_config
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.dev import dev_score
from whisfusion_jax.parallel.processes import join_processes
from whisfusion_jax.progress import progress_bar
from whisfusion_jax.training.loop import export_run, train


def main() -> int:
    """Read --config, then let the command line override any of its fields."""
    arguments = sys.argv[1:]
    if arguments[:1] != ["--config"] or len(arguments) < 2:
        raise WhisfusionError("usage: train.py --config FILE [--FIELD VALUE ...]")
    default = read_config(Path(arguments[1]))
    config = tyro.cli(TrainConfig, default=default, args=arguments[2:], description=__doc__)
    keep_compiled_programs()
    join_processes(config.processes)
    first = jax.process_index() == 0
    score = dev_score(config.dev)
    with progress_bar(shown=first) as progress:
        trained = train(config, progress, score)
    if trained.stopped:
        print("stopped and saved; the same command goes on", file=sys.stderr)
        return 0
    made = export_run(trained, config)
    if first:
        print(made.path)
    return 0


if __name__ == "__main__":
    run(main)
