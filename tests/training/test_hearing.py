"""A CTC head learns eight utterances by heart, and drafts them."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.progress import Progress

from tests.support import TINY, speechlike
from tests.training.test_train import logged
from tests.training.tiny import WORDS, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.config import (
    FRAMES_PER_SECOND,
    CtcConfig,
    OptimizerConfig,
    PhaseConfig,
    TrainConfig,
)
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.decoding.drafts import collapsed
from whisfusion_jax.decoding.winner import edit_distance
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.ctc import BLANK, UNKNOWN
from whisfusion_jax.training.loop import Trained, export_run, train

HEAD = dataclasses.replace(CtcConfig.of_whisper(TINY, vocabulary=150), layers=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return dataclasses.replace(
        tiny_run(tmp_path_factory.mktemp("run")),
        ctc=HEAD,
        learned=None,
        dev=None,
        phases=(PhaseConfig(400, ()),),
        optimizer=OptimizerConfig(rate=1e-2, warmup=10, average=0.9),
        canvases=1,
        positions=8 * 48,
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Trained:
    with Progress(disable=True) as progress:
        return train(config, progress)


def test_the_head_is_the_commonest_tokens_and_two_more(trained: Trained) -> None:
    names = np.asarray(trained.model.names[...])
    assert names[0] == BLANK
    assert names[-1] == UNKNOWN
    spelled = {token for word in WORDS for token in f" {word}".encode()}
    assert spelled <= set(names.tolist())
    assert len(set(names.tolist())) == HEAD.vocabulary
    lacking = next(token for token in range(TINY.vocabulary) if token not in names)
    numbers = trained.model.numbers(jnp.array([names[7], lacking]))
    np.testing.assert_array_equal(numbers, [7, HEAD.vocabulary - 1])


def test_eight_utterances_are_drafted_by_heart(trained: Trained, config: TrainConfig) -> None:
    whisper, drafts = trained.bundle, export_run(trained, config)
    head, tokenizer = drafts.load_ctc(), whisper.tokenizer
    clips = [speechlike(1.5, number) for number in range(8)]
    samples = np.stack([pad_to(clip, 6) for clip in clips])
    audio = encode(whisper.load_encoder(), whisper.load_memory(), samples)
    names = head.hear(audio.states[:, : 6 * FRAMES_PER_SECOND])
    drafted = np.asarray(collapsed(names, 16, tokenizer.end)).tolist()
    texts = [tokenizer.decode(row[: row.index(tokenizer.end)]).strip() for row in drafted]
    # A last letter may be anywhere in the silence behind, and so likelier nowhere at each moment.
    wrong = sum(edit_distance(*pair) for pair in zip(texts, WORDS, strict=True))
    assert wrong < 0.35 * len("".join(WORDS))
    # And it may draft for Whisper, whose text stays its own.
    exact = Transcriber(whisper, decoder="exact", drafts=drafts, stretch=5)
    greedy = Transcriber(whisper, decoder="ar")
    for clip in clips[:3]:
        ours, theirs = exact.transcribe(clip), greedy.transcribe(clip)
        assert ours.segments[0].tokens == theirs.segments[0].tokens


def test_a_sample_of_the_names_teaches_too(config: TrainConfig, tmp_path: Path) -> None:
    sampled = dataclasses.replace(
        config, work=tmp_path / "work", sample=120, positions=2 * 48, phases=(PhaseConfig(75, ()),)
    )
    with Progress(disable=True) as progress:
        train(sampled, progress)
    losses = logged(sampled.work, "loss")
    assert losses[75] < 0.2 * losses[25]


def test_a_head_of_another_width_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    wide = dataclasses.replace(config, work=tmp_path, ctc=dataclasses.replace(HEAD, width=48))
    with Progress(disable=True) as progress, pytest.raises(WhisfusionError, match="width 48"):
        train(wide, progress)
