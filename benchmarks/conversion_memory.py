"""Peak memory of converting a large-v3-sized checkpoint of random weights.

python -m benchmarks.conversion_memory --size large-v3 --work /tmp/large

Writes sharded float16 safetensors as the hub serves them, converts them in a process of its own,
and compares that process's peak with the size of the model's encoder. With --parity, transformers
reads the same files, and both encoders and decoders run on them in float32.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track
from safetensors.numpy import save_file

from tests.checkpoint_writers import huggingface_settings
from tests.support import TINY_RULES, byte_tokenizer
from whisfusion_jax.bundle import Bundle, parameter_shapes
from whisfusion_jax.config import WHISPER_SIZES
from whisfusion_jax.conversion.huggingface import NAMES, HuggingFaceCheckpoint
from whisfusion_jax.conversion.rules import plan


def main(size: str = "large-v3", work: Path = Path("/tmp/large"), parity: bool = False) -> None:
    """Make the checkpoint if it isn't there, convert it, say what it took.

    Args:
        size: A published size.
        work: Directory for the checkpoint and the bundle.
        parity: Hold the result against transformers afterwards (takes minutes and memory).
    """
    config = WHISPER_SIZES[size]
    source, bundle = work / size, work / f"{size}-bundle"
    shapes = parameter_shapes(config)
    if not source.exists():
        write_random(source, size, shapes)
    if not bundle.exists():
        command = [sys.executable, "-m", "tools.convert_weights", str(source), str(bundle)]
        subprocess.run(command, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        encoder = 2 * sum(
            int(np.prod(shape)) for name, shape in shapes.items() if name.startswith("encoder")
        )
        print(f"peak {peak / 1e9:.2f} GB; encoder in float16 {encoder / 1e9:.2f} GB")
        print(f"ratio {peak / encoder:.2f}")
    if parity:
        from tools.convert_weights.verify import verify

        for what, difference in verify(Bundle.open(bundle), source):
            print(f"largest difference of {what}: {difference:.2e}")


def write_random(path: Path, size: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """A sharded checkpoint, a layer a shard, so that it never is in memory whole."""
    config = WHISPER_SIZES[size]
    path.mkdir(parents=True)
    settings, generation = huggingface_settings(config, TINY_RULES)
    (path / "config.json").write_text(json.dumps(settings))
    (path / "generation_config.json").write_text(json.dumps(generation))
    (path / "tokenizer.json").write_text(byte_tokenizer())
    random = np.random.default_rng(0)
    sources = plan(NAMES, HuggingFaceCheckpoint.leaves, config.layers)
    weight_map: dict[str, str] = {}
    by_shard: dict[str, list[str]] = {}
    for name in shapes:
        by_shard.setdefault(".".join(name.split(".")[:3]), []).append(name)
    for number, names in enumerate(track(by_shard.values(), description="writing")):
        file = f"model-{number:05}-of-{len(by_shard):05}.safetensors"
        tensors = {}
        for name in names:
            at, shape = sources.tensors[name], shapes[name]
            tensor = random.standard_normal(shape, dtype=np.float32)
            tensor *= 1 / np.sqrt(np.prod(shape[:-1])) if name.endswith("kernel") else 0.2
            if name.endswith("scale"):
                tensor = 1 + 0.5 * tensor
            back = tensor.transpose(np.argsort(at.axes)) if at.axes else tensor
            tensors["model." + at.name] = np.ascontiguousarray(back.astype(np.float16))
        save_file(tensors, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


if __name__ == "__main__":
    tyro.cli(main)
