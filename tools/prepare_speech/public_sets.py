"""Public speech in eleven languages: hours, shares, where to get it, how to prepare it."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class PublicSet:
    """A set, or its part in one language, as `python -m tools.prepare_speech corpus` takes it."""

    name: str
    """Of what is prepared: DATA/manifest_speech/NAME/1.0.0."""
    language: str
    hours: float
    """Of its split `train`, as its authors say; 0 where it grows with every release."""
    unpacked: str
    """Its directory once unpacked."""
    source: str
    """Where to get it."""
    license: str

    @property
    def prepare(self) -> str:
        return f"python -m tools.prepare_speech corpus {self.unpacked} --name {self.name}"


_MLS = {
    "de": ("german", 1966.5), "en": ("english", 44659.7), "es": ("spanish", 917.7),
    "fr": ("french", 1076.6), "it": ("italian", 247.4), "nl": ("dutch", 1554.2),
    "pl": ("polish", 103.6), "pt": ("portuguese", 161.0),
}  # fmt: skip
_VOXPOPULI = {"de": 282, "en": 543, "es": 166, "fr": 211, "it": 91, "nl": 53, "pl": 111}
_FLEURS = {
    "de": "de_de", "en": "en_us", "es": "es_419", "fr": "fr_fr", "it": "it_it", "ja": "ja_jp",
    "ko": "ko_kr", "nl": "nl_nl", "pl": "pl_pl", "pt": "pt_br", "zh": "cmn_hans_cn",
}  # fmt: skip
_COMMON_VOICE = {**dict.fromkeys(_FLEURS), "zh": "zh-CN"}

SETS = (
    PublicSet(
        "librispeech", "en", 960.9, "LibriSpeech", "https://www.openslr.org/12", "CC BY 4.0"
    ),
    *(
        PublicSet(
            f"mls_{language}", language, hours, f"mls_{name}_opus",
            "https://www.openslr.org/94", "CC BY 4.0",
        )
        for language, (name, hours) in _MLS.items()
    ),
    *(
        PublicSet(
            f"voxpopuli_{language}", language, hours, f"transcribed_data/{language}",
            "https://github.com/facebookresearch/voxpopuli", "CC0",
        )
        for language, hours in _VOXPOPULI.items()
    ),
    *(
        PublicSet(
            f"common_voice_{language}", language, 0, f"cv-corpus/{name or language}",
            "https://commonvoice.mozilla.org", "CC0",
        )
        for language, name in _COMMON_VOICE.items()
    ),
    *(
        PublicSet(
            f"fleurs_{language}", language, 10, f"fleurs/{name}",
            "https://huggingface.co/datasets/google/fleurs", "CC BY 4.0",
        )
        for language, name in _FLEURS.items()
    ),
    PublicSet(
        "aishell", "zh", 150, "data_aishell", "https://www.openslr.org/33", "Apache 2.0"
    ),
    PublicSet(
        "reazonspeech", "ja", 10000, "reazonspeech",
        "https://huggingface.co/datasets/reazon-research/reazonspeech", "CDLA-Sharing-1.0",
    ),
    PublicSet(
        "zeroth", "ko", 51.6, "zeroth_korean", "https://www.openslr.org/40", "CC BY 4.0"
    ),
)  # fmt: skip


def shares(temperature: float) -> dict[str, float]:
    """How often each language is drawn: its hours to that power, of all (`TrainConfig`)."""
    hours = dict[str, float]()
    for each in SETS:
        hours[each.language] = hours.get(each.language, 0) + each.hours
    weights = {language: total**temperature for language, total in sorted(hours.items())}
    return {language: weight / sum(weights.values()) for language, weight in weights.items()}


def directories(data: Path) -> tuple[Path, ...]:
    """Where all sets lie once prepared."""
    return tuple(data / f"manifest_speech/{each.name}/1.0.0" for each in SETS)


def show() -> None:
    """All sets in a table, and how often each language is drawn."""
    console = Console()
    for each in SETS:
        hours = f"{each.hours:,.0f} h" if each.hours else "more with each release"
        console.print(
            f"[bold]{each.name}[/bold] ({hours}, {each.license}): {each.source}", soft_wrap=True
        )
        console.print(f"    {each.prepare}", soft_wrap=True)
    console.print(f"{sum(each.hours for each in SETS):,.0f} hours, and Common Voice")
    drawn = Table("temperature", *shares(1), title="Share of each language, %")
    for temperature in (1.0, 0.5, 0.0):
        cells = (f"{100 * share:.1f}" for share in shares(temperature).values())
        drawn.add_row(f"{temperature:g}", *cells)
    console.print(drawn)
