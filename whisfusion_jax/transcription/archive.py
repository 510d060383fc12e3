"""Transcribing a whole manifest into one file, in order; stopped or killed, it goes on.

What is written stands in a part beside the output, and becomes the output when all is there.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.places import cut, growing
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


@dataclass(frozen=True)
class Archive:
    """A manifest's transcripts on disk: JSON lines, in the manifest's order."""

    output: epath.Path

    @property
    def part(self) -> epath.Path:
        """What is there so far."""
        return self.output.with_name(f"{self.output.name}.part")

    def written(self) -> int:
        """Whole lines that are there; a torn last one is cut off."""
        try:
            text = self.part.read_bytes()
        except FileNotFoundError:
            return 0
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            cut(self.part, len(whole))
        return whole.count(b"\n")

    def write(self, lines: Iterable[dict[str, Any]]) -> list[str]:
        """Write the lines that were missing, each as it comes, and finish the output.

        Returns:
            what could not be read, a message each.

        Raises:
            WhisfusionError: nothing can be written.
        """
        failed = []
        try:
            with growing(self.part) as write:
                for line in lines:
                    if "error" in line:
                        failed.append(line["error"])
                    write(json.dumps(line, ensure_ascii=False) + "\n")
            self.part.rename(self.output)
        except OSError as error:
            reason = error.strerror or str(error)
            raise WhisfusionError(f"{self.part}: {reason}; start again to go on") from None
        return failed


def archive_lines(
    transcriber: Transcriber, utterances: Sequence[Utterance]
) -> Iterator[dict[str, Any]]:
    """Transcribe, in order: the fields of the Open ASR Leaderboard's manifests.

    One that can't be read has an empty text, and an `error`.
    """
    results = transcriber.transcribe_many(each.audio for each in utterances)
    for utterance, result in zip(utterances, results, strict=True):
        yield _line(utterance, result)


def _line(utterance: Utterance, result: Transcript | AudioError) -> dict[str, Any]:
    known = {"audio_filepath": utterance.audio, "text": utterance.text}
    if isinstance(result, AudioError):
        return {**known, "pred_text": "", "error": str(result)}
    language = {"language": result.language} if result.language else {}
    return {**known, "duration": round(result.seconds, 3), "pred_text": result.text, **language}
