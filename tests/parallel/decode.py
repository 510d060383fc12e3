"""Transcribe by each decoder on one device of four, then on all of them, and write both down.

python -m tests.parallel.decode WHISPER DENOISING
"""

import json
import sys

import jax

from tests.support import speechlike
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import MeshConfig
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.transcription.decoders import DecoderName

Found = dict[str, list[tuple[str, float, float]]]
"""By mesh, each clip's text, steps and likelihood."""


def decode(bundle: Bundle, drafts: Bundle, decoder: DecoderName) -> Found:
    settings = {"candidates": 4, "temperature": 0.7} if decoder == "diffusion" else {}
    clips = [speechlike(1 + number, number) for number in range(3)]
    found = {}
    meshes = ((1, 1), (4, 1), (2, 2)) if decoder == "exact" else ((1, 1), (4, 1))
    for data, tensor in meshes:
        mesh = make_mesh(MeshConfig(data, 1, tensor), jax.devices()[: data * tensor])
        transcriber = Transcriber(
            drafts if decoder == "diffusion" else bundle, decoder=decoder, drafts=drafts,
            mesh=mesh, batch_size=2, stretch=6, **settings,
        )  # fmt: skip
        # Several at once, and one whose candidates have devices to spare.
        results = [*transcriber.transcribe_many(clips), transcriber.transcribe(clips[2])]
        found[f"{data}x{tensor}"] = [
            (each.text, each.steps, each.segments[0].avg_logprob) for each in results
        ]
    return found


def main(whisper: str, denoising: str) -> None:
    bundles = Bundle.open(whisper), Bundle.open(denoising)
    decoders: tuple[DecoderName, ...] = ("ar", "exact", "diffusion")
    print(json.dumps({decoder: decode(*bundles, decoder) for decoder in decoders}))


if __name__ == "__main__":
    main(*sys.argv[1:])
