import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, TINY_RULES
from whisfusion_jax.config import TokenRules
from whisfusion_jax.decoding.beam import decode_by_beam
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.whisper import Whisper

PROMPT = [257, 265]
END = 256


@pytest.fixture(scope="module")
def audio(tiny_whisper: Whisper) -> AudioStates:
    mel = np.random.default_rng(1).normal(size=(3, 3000, TINY.mel_bins)).astype(np.float32)
    return tiny_whisper.encoder(jnp.asarray(mel))


def search(
    whisper: Whisper, states: jax.Array, rules: TokenRules, beams: int, length: int
) -> tuple[list[int], float]:
    """OpenAI's beam search in plain Python, without a cache: the text and its score."""
    decoder = whisper.decoder
    cross = decoder.cross_cache(AudioStates(states[None], None))

    @jax.jit
    def logits_after(tokens: jax.Array) -> jax.Array:
        hidden, _ = decoder(tokens, decoder.empty_cache(1, tokens.shape[1]), 0, cross)
        return decoder.logits(hidden)[0]

    def logprobs(text: list[int]) -> np.ndarray:
        row = PROMPT + text + [END] * (length - len(text))  # what follows is masked by causality
        logits = np.array(logits_after(jnp.array([row]))[len(PROMPT) - 1 + len(text)])
        logits[list(rules.suppress)] = -np.inf
        if not text:
            logits[list(rules.suppress_first)] = -np.inf
        return np.array(jax.nn.log_softmax(logits))

    live, finished = [([], 0.0)], []
    for _ in range(length):
        grown = []
        for text, score in live:
            options = logprobs(text)
            for token in np.argsort(-options)[: beams + 1]:
                grown.append(([*text, int(token)], score + float(options[token])))
        grown.sort(key=lambda item: -item[1])
        live, ended = [], []
        for text, score in grown:
            if text[-1] == END:
                ended.append((text[:-1], score))
            else:
                live.append((text, score))
            if len(live) == beams:
                break
        finished += ended[: beams - len(finished)]
        if len(finished) == beams:
            break
    finished += live[: beams - len(finished)]
    return max(
        ((text, score / max(len(text), 1)) for text, score in finished), key=lambda item: item[1]
    )


@pytest.mark.parametrize("few_tokens", [False, True])
def test_equals_a_plain_search(few_tokens: bool, tiny_whisper: Whisper, audio: AudioStates) -> None:
    """With the whole vocabulary, and with one so small that texts end early."""
    rules = TINY_RULES
    if few_tokens:
        keep = {END, *range(100, 106)}
        rules = TokenRules(tuple(t for t in range(TINY.vocabulary) if t not in keep), (END,))
    length, beams = 8, 3
    prompt = jnp.array([PROMPT] * 3)
    vocabulary = Vocabulary(rules, end=END, no_speech=264)
    cross = tiny_whisper.decoder.cross_cache(audio)
    found = decode_by_beam(tiny_whisper.decoder, cross, prompt, vocabulary, beams, length)
    for row in range(3):
        text, score = search(tiny_whisper, audio.states[row], rules, beams, length)
        expected = text + [END] * (length - len(text))
        assert found.tokens[row].tolist() == expected
        total = float(found.logprobs[row].sum())
        assert total / max(len(text), 1) == pytest.approx(score, abs=1e-4)


def test_one_beam_is_greedy(tiny_whisper: Whisper, audio: AudioStates) -> None:
    prompt = jnp.array([PROMPT] * 3)
    vocabulary = Vocabulary(TINY_RULES, end=END, no_speech=264)
    cross = tiny_whisper.decoder.cross_cache(audio)
    beam = decode_by_beam(tiny_whisper.decoder, cross, prompt, vocabulary, 1, 12)
    greedy = decode_greedily(tiny_whisper.decoder, cross, prompt, vocabulary, 12)
    np.testing.assert_array_equal(beam.tokens, greedy.tokens)
