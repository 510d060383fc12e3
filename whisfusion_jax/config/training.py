"""What a training run is to do; files in `configs/` build one."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from whisfusion_jax.config.devices import MeshConfig, ProcessesConfig
from whisfusion_jax.config.models import CtcConfig, DenoiserConfig
from whisfusion_jax.errors import WhisfusionError


@dataclass(frozen=True)
class PhaseConfig:
    """A stretch of training."""

    steps: int
    masking: tuple[Literal["uniform", "high_mask", "ahead"], ...]
    """Corruptions that an audio's canvases take in turn (diffusion/corruption.py)."""
    rounds: int = 1
    """Each but the first begins with what the one before wrote: Iterative Self-Correction Training
    (diffusion/correction.py)."""
    drafted: int = 0
    """The first so many canvases of an audio begin instead with what a CTC head hears, its least
    sure tokens masked."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.drafted < 0:
            raise WhisfusionError(f"{self}: at least one round, and no canvases fewer than none")

    @property
    def corrects(self) -> bool:
        """Whether visible tokens may be wrong, and are asked for, too."""
        return self.rounds > 1 or self.drafted > 0

    @property
    def room(self) -> float:
        """For positions that are asked for, as a share of all: what is masked leaves some over."""
        return 1.0 if self.corrects else 0.6


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a warm-up and a cosine decay over the whole run."""

    rate: float = 3e-4
    warmup: int = 100
    """Steps."""
    final: float = 0.05
    """The last rate, as a share of the first."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float = 1.0
    """The gradient's largest norm."""
    ahead: float = 1.0
    """How many times as fast the heads' numbers for tokens ahead learn (models/denoiser.py): other
    weights may change far less than these must."""
    average: float = 0.999
    """Decay of the parameters' moving average."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run of a denoiser on a frozen Whisper encoder."""

    work: Path
    """Directory of the run: its checkpoints and logs."""
    data: tuple[Path, ...]
    """Directories of prepared TFDS sets, such as DATA/synthetic_speech/en_0/1.0.0, or manifests."""
    sentences: tuple[Path, ...]
    """Text files whose tokens make the shortlist, beside Whisper's commonest."""
    phases: tuple[PhaseConfig, ...]
    bundle: str = "tiny.en"
    """Whisper, by name or directory; with a padding memory."""
    denoiser: DenoiserConfig | None = None
    """Sizes of one from scratch; None starts from Whisper's decoder. The vocabulary's size is
    that of the shortlist, whatever stands here."""
    both_ways: bool = False
    """One that starts from Whisper's decoder sees everything from everywhere and learns all of
    itself but the embeddings, as MDM-ASR's; else it learns adapters alone."""
    drafts: str | None = None
    """A bundle whose CTC head hears what `drafted` canvases begin with, by name or directory. The
    denoiser must then write all of Whisper's tokens (`commonest`)."""
    seen: float = 0.3
    """Share of the visible tokens that is asked for where some may be wrong."""
    ctc: CtcConfig | None = None
    """Sizes of a CTC head, which is trained instead of a denoiser, best on `heard` texts."""
    start: str | None = None
    """A bundle whose denoiser to go on from, with its shortlist, or whose head; by name or
    directory."""
    commonest: int = 10_000
    """Of Whisper's tokens, so many are in the shortlist anyway; all, as Whisper counts them, if it
    has no more."""
    optimizer: OptimizerConfig = OptimizerConfig()
    learned: tuple[str, ...] | None = None
    """Patterns of the names of parameters that learn; None is what the warm kind adds to Whisper,
    and all of one from scratch."""
    augmented: float = 0.4
    """Share of the examples that are made harder to hear."""
    joined: float = 0.15
    """Longer examples, out of several; as a share of the others."""
    wordless: float = 0.03
    """Silence, noise and tones with empty text; as a share of the others."""
    temperature: float = 0.5
    """Languages are drawn as often as their share of the examples to this power says: 0 all alike,
    1 as many as there are."""
    positions: int = 4608
    """Canvas positions, or a head's moments, that a batch reads, of all devices."""
    canvases: int = 8
    """Of each audio."""
    stretch: int | None = None
    """Read so many positions of each canvas, from its first mask on, as decoding by stretches
    does; of the warm kind only. None reads all."""
    sample: int | None = None
    """Tokens that the softmax is over: a batch's own, and others drawn anew for each; None is the
    whole vocabulary."""
    keep_states: bool = True
    """Encode every example once and keep its states on disk, so that epochs cost the decoder
    alone; else each step encodes its batch, without a teacher."""
    states: Path | None = None
    """Directory of these states, or else of the examples' lengths and texts (`examples.npz`), which
    runs on the same data can share; None is in `work`."""
    heard: bool = False
    """Learn the text that Whisper itself writes, not the one beside the speech, which may be
    missing: for the drafts of exact decoding, which Whisper must agree to. Without `keep_states`
    the speech lies in the device's memory, and each step varies it and hears its text anew."""
    heard_batches: int | None = None
    """Keep the first so many batches that are heard in the device's memory, and learn from them
    again and again, in another order each time: hearing costs several times what learning does.
    None hears anew at each step."""
    heard_above: float | None = None
    """Leave out heard texts of whose tokens the mean log-probability is less: of voices that
    Whisper hardly understands. With `keep_states`; None keeps all."""
    teacher: float = 1.0
    """Share of the target that is Whisper's own distribution where it is sure of the text."""
    inverse_ratio: bool = False
    """Weigh rows by one over their mask ratio."""
    report_every: int = 25
    """Steps whose means make one line of the log."""
    save_every: int = 200
    keep: int = 2
    """The newest checkpoints that stay, beside the one with the fewest errors on `dev`."""
    most_skipped: int = 10
    """Steps in a row whose loss or gradient is no number, before the run stops. Such a step
    changes nothing."""
    dev: Path | None = None
    """A manifest to transcribe at each save, for the error rate; never trained on."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations, gradients of them, and frozen weights; what learns is float32 in any case."""
    accumulate: int = 1
    """Parts that a batch is read in, one after another, so that it needs less memory at once."""
    scan: Literal["nothing", "products"] | None = None
    """Compile one layer for all alike ones, whose activations are computed again for the gradient
    (models/stack.py says what is kept); for large models. None keeps all."""
    seed: int = 0
    stop_at: int | None = None
    """Stop after this step, to go on another time; None runs to the end."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


def read_config(path: Path) -> TrainConfig:
    """The `CONFIG` that a Python file in `configs/` builds.

    Raises:
        WhisfusionError: there is no such file, or it builds none.
    """
    spec = importlib.util.spec_from_file_location("config", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise WhisfusionError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(config := getattr(module, "CONFIG", None), TrainConfig):
        raise WhisfusionError(f"{path}: defines no CONFIG that is a TrainConfig")
    return config
