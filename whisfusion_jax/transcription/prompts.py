"""What stands before a text in the decoder: language, task, perhaps the end of an earlier text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.decoders import EARLIER, DecoderName
from whisfusion_jax.transcription.pieces import Recording


@dataclass(frozen=True)
class Prompts:
    """Those of one decoder of a bundle.

    Attributes:
        language: of recordings that name none; None is that which is heard, or the only one.
        task: of recordings that name none.
        shortlist: by which the decoder counts tokens; None is as Whisper does.
        initial: tokens of a text that recordings without an earlier one are written as if they
            followed.
    """

    bundle: Bundle
    decoder: DecoderName
    language: str | None
    task: Task
    shortlist: Shortlist | None = None
    initial: tuple[int, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle, decoder: DecoderName, language: str | None, task: Task) -> Self:
        """Check what a user says.

        Raises:
            WhisfusionError: the model doesn't know the language, or doesn't do the task.
        """
        prompts = cls(bundle, decoder, None, task)
        if task == "translate" and not prompts.codes:
            raise _translates_nothing()
        return replace(prompts, language=prompts.check_language(language))

    @cached_property
    def codes(self) -> dict[int, str]:
        """Languages' codes by Whisper's tokens; none where there is nothing to choose."""
        languages = self.bundle.tokenizer.languages
        if not self.bundle.config.model.multilingual:
            return {}
        return {token: code for code, token in languages.items()}

    def check_language(self, language: str | None) -> str | None:
        """A language's code as `of` takes it; None where there is nothing to say.

        Raises:
            WhisfusionError: the model doesn't know it.
        """
        if language is None or language in self.codes.values():
            return language
        if not self.codes:
            if language == "en":
                return None
            raise WhisfusionError(f"this model knows English only, not {language!r}")
        known = " ".join(sorted(self.codes.values()))
        raise WhisfusionError(f"language {language!r} is unknown; known are: {known}")

    def check_task(self, task: Task) -> None:
        """Whether a recording may ask for a task, whatever the others do.

        Raises:
            WhisfusionError: this decoder can't do it.
        """
        if task == self.task:
            return
        if not self.codes:
            raise _translates_nothing()
        if self.decoder not in ("ar", "exact"):
            raise WhisfusionError(
                f"{self.decoder} was started to {self.task}; ar and exact do either"
            )

    @property
    def takes_earlier(self) -> bool:
        """Whether a text may be written as if it followed another."""
        denoiser = self.bundle.config.denoiser
        has_learned = self.decoder != "diffusion" or denoiser is None or not denoiser.sees_all
        knows = self.bundle.tokenizer.previous is not None
        return self.decoder != "ctc" and knows and has_learned

    def earlier(self, text: str | None) -> tuple[int, ...]:
        """A text as the decoder counts tokens, the last 200 of them; none of an empty one.

        Raises:
            WhisfusionError: the model takes none.
        """
        if not text or not text.strip():
            return ()
        begin, *said = self.bundle.tokenizer.earlier(text, EARLIER - 1)
        if not self.takes_earlier:
            raise WhisfusionError(f"initial_prompt: {self.decoder} of this bundle takes none")
        if self.shortlist:
            said = self.shortlist.respell(said)
        return (*self._own([begin]), *said[1 - EARLIER :])

    def bare(self, language: str | None, task: Task) -> list[int]:
        """Without any earlier text, in the decoder's tokens; -1 for a language to be heard."""
        tokenizer = self.bundle.tokenizer
        if not self.codes:
            prompt = tokenizer.prompt(None)
        elif language:
            prompt = tokenizer.prompt(language, task)
        elif self.shortlist or not self.bundle.config.model.hears_language:
            who = "diffusion" if self.shortlist else "this model"
            raise WhisfusionError(f"{who} hears no language: name it")
        else:
            prompt = tokenizer.prompt(next(iter(self.codes.values())), task)
            prompt[1] = -1
        return self._own(prompt)

    def of_recording(self, recording: Recording) -> list[int]:
        """With the text in front that it is to follow."""
        bare = self.bare(recording.language, recording.task)
        return [*(recording.earlier or self.initial), *bare]

    def language_of(self, token: int) -> str | None:
        """The code of a decoder's token for a language; None of none."""
        if token < 0:
            return None
        return self.codes[self.shortlist.to_whisper([token])[0] if self.shortlist else token]

    def _own(self, tokens: Sequence[int]) -> list[int]:
        """Whisper's, as the decoder counts them."""
        return self.shortlist.from_whisper(tokens) if self.shortlist else list(tokens)


def _translates_nothing() -> WhisfusionError:
    return WhisfusionError("this model knows English only: it translates nothing")
