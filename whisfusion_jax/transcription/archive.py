"""Transcribing a whole manifest, by one process or by many that know nothing of each other.

Each process writes its share, in order, into a part beside the output; what is written is on disk,
so a process that dies goes on where it stopped when it is started again. The last one to finish
joins the parts.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


@dataclass(frozen=True)
class Archive:
    """A manifest's transcripts on disk: JSON lines, in the manifest's order."""

    output: Path
    lines: int
    processes: int = 1

    def part(self, process: int) -> Path:
        """Where a process writes."""
        return self.output.with_name(f"{self.output.name}.part-{process}-of-{self.processes}")

    def share(self, process: int) -> range:
        """A process's lines: neighbours."""
        first, last = (self.lines * number // self.processes for number in (process, process + 1))
        return range(first, last)

    def check(self) -> None:
        """See that no other split of the work is under way.

        Raises:
            WhisfusionError: there are parts for another number of processes.
        """
        own = {self.part(process) for process in range(self.processes)}
        others = set(self.output.parent.glob(f"{self.output.name}.part-*-of-*")) - own
        if others:
            raise WhisfusionError(
                f"{min(others)}: was begun with another number of processes; go on with that "
                "number, or remove it"
            )

    def written(self, process: int) -> int:
        """Whole lines in a process's part; a torn last line is cut off."""
        try:
            text = self.part(process).read_bytes()
        except FileNotFoundError:
            return 0
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            with self.part(process).open("r+b") as file:
                file.truncate(len(whole))
        return whole.count(b"\n")

    def join(self) -> bool:
        """Make the output of the parts, if all are finished."""
        try:
            parts = [self.part(process).read_bytes() for process in range(self.processes)]
        except FileNotFoundError:  # not begun, or joined by another process just now
            return self.output.exists()
        if any(part.count(b"\n") < len(self.share(process)) for process, part in enumerate(parts)):
            return False
        aside = self.output.with_name(f".{self.output.name}.partial")
        aside.write_bytes(b"".join(parts))
        aside.rename(self.output)
        for process in range(self.processes):
            self.part(process).unlink(missing_ok=True)
        return True


def transcribe_archive(
    transcriber: Transcriber,
    utterances: Sequence[Utterance],
    archive: Archive,
    process: int = 0,
    track: Callable[[Iterable[Utterance]], Iterable[Utterance]] = lambda each: each,
) -> list[str]:
    """Transcribe a process's share, from where it stopped.

    Args:
        track: wraps the utterances, for progress.

    Returns:
        what could not be read, a message each.

    Raises:
        WhisfusionError: nothing can be written.
    """
    share = [utterances[number] for number in archive.share(process)]
    remaining = share[archive.written(process) :]
    failed = []
    results = transcriber.transcribe_many(each.audio for each in remaining)
    try:
        with archive.part(process).open("a", encoding="utf-8") as file:
            for utterance, result in zip(track(remaining), results, strict=True):
                if isinstance(result, AudioError):
                    failed.append(str(result))
                file.write(json.dumps(_line(utterance, result), ensure_ascii=False) + "\n")
                file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise WhisfusionError(f"{archive.part(process)}: {reason}; start again to go on") from None
    return failed


def _line(utterance: Utterance, result: Transcript | AudioError) -> dict[str, Any]:
    """The fields of the Open ASR Leaderboard's manifests."""
    known = {"audio_filepath": utterance.audio, "text": utterance.text}
    if isinstance(result, AudioError):
        return {**known, "pred_text": "", "error": str(result)}
    language = {"language": result.language} if result.language else {}
    return {**known, "duration": round(result.seconds, 3), "pred_text": result.text, **language}
