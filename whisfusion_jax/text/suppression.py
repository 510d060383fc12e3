"""Whisper's token suppression, derived from a tokenizer where a checkpoint doesn't list it."""

from whisfusion_jax.config import TokenRules
from whisfusion_jax.text.tokenizer import WhisperTokenizer

# OpenAI's choice: marks that stand for noises, music and speakers rather than for speech.
_MARKS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *"<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),  # noqa: SIM905
)
_MUSIC = tuple("♩♪♫♬♭♮♯")
"""Some are several tokens long; their shared first token is suppressed too."""
_TASKS = (
    ("<|transcribe|>",),
    ("<|translate|>",),
    ("<|startoftranscript|>",),
    ("<|startofprev|>",),
    ("<|startoflm|>",),
    ("<|nospeech|>", "<|nocaptions|>"),
)


def default_rules(tokenizer: WhisperTokenizer) -> TokenRules:
    """The rules that OpenAI's `suppress_tokens="-1"` and `suppress_blank` stand for."""
    # Hyphens and quotes are fine within words, not at their start.
    suppressed = {tokenizer.encode(" -")[0], tokenizer.encode(" '")[0]}
    for mark in (*_MARKS, *_MUSIC):
        for text in (mark, " " + mark):
            tokens = tokenizer.encode(text)
            if len(tokens) == 1 or mark in _MUSIC:
                suppressed.add(tokens[0])
    suppressed.update(tokenizer.special(*names) for names in _TASKS)
    return TokenRules(
        suppress=tuple(sorted(suppressed)),
        suppress_first=(*tokenizer.encode(" "), tokenizer.end),
    )
