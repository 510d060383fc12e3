"""Transcripts onto standard output, as they come about, or into files beside each other."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from etils import epath
from rich.console import Console
from rich.text import Text

from whisfusion_jax.audio.files import STANDARD_INPUT
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.places import write
from whisfusion_jax.transcription.subtitles import SubtitleOptions
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.words import Word

_COLOURS = ((0.9, "green"), (0.7, "yellow"), (0.4, "dark_orange"), (0.0, "red"))
"""Of words, by the least confidence."""

_WRITERS: dict[str, Callable[[str, Transcript, SubtitleOptions], str]] = {
    "txt": lambda file, transcript, options: transcript.text,
    "srt": lambda file, transcript, options: transcript.to_srt(options).rstrip(),
    "vtt": lambda file, transcript, options: transcript.to_vtt(options).rstrip(),
    "tsv": lambda file, transcript, options: transcript.to_tsv(options),
    "json": lambda file, transcript, options: transcript.to_json(file),
}
"""By ending: the file's name and its transcript to text."""
TIMED = {"srt", "vtt", "tsv"}
"""Those that need word times."""


def formats_of(wanted: str, folder: epath.PathLike | None) -> Sequence[str]:
    """The formats that a list of them names.

    Raises:
        WhisfusionError: one is unknown, or there are several and no folder.
    """
    formats = list(_WRITERS) if wanted == "all" else wanted.split(",")
    for each in formats:
        if each not in _WRITERS:
            known = ", ".join(_WRITERS)
            raise WhisfusionError(f"format {each!r} is unknown; known are: {known}, all")
    if len(formats) > 1 and folder is None:
        raise WhisfusionError("several formats need --output-dir")
    return formats


def output_stems(files: Sequence[str], folder: epath.Path | None) -> Sequence[epath.Path | None]:
    """Where each file's transcripts go, endings apart; None is standard output.

    Raises:
        WhisfusionError: two would be written to one, or the folder can't be made.
    """
    if folder is None:
        return [None] * len(files)
    outputs = [folder / ("stdin" if file == STANDARD_INPUT else Path(file).stem) for file in files]
    writers: dict[epath.Path, str] = {}
    for file, output in zip(files, outputs, strict=True):
        if output in writers:
            both = f"{writers[output]} and {file}"
            raise WhisfusionError(f"{both} would both be written to {output}.*")
        writers[output] = file
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WhisfusionError(f"{folder}: {error.strerror}") from None
    return outputs


class Writer:
    """Writes transcripts of one file after the other, in all formats that are asked for."""

    def __init__(self, formats: Sequence[str], options: SubtitleOptions) -> None:
        self._formats, self._options = formats, options
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = False

    def segment(self, segment: Segment) -> None:
        """Show what is there of a text that goes to standard output."""
        if not segment.text:
            return
        before = " " * (self._begun and segment.blank)
        if self._console.is_terminal:
            self._console.print(before, coloured(segment.words), sep="", end="")
        else:
            print(before + segment.text, end="", flush=True)
        self._begun = True

    def transcript(self, file: str, transcript: Transcript, stem: epath.Path | None) -> None:
        """Write a file's.

        Args:
            stem: where to, the ending apart; None is standard output, where text has been shown
                segment by segment.

        Raises:
            WhisfusionError: it can't be written.
        """
        for format in self._formats:
            if stem is None and format == "txt":
                self.leave()
                continue
            text = _WRITERS[format](file, transcript, self._options)
            if stem is None:
                print(text, flush=True)
            else:
                _write(stem.with_name(f"{stem.name}.{format}"), text)

    def leave(self) -> None:
        """End the line of a text that goes to standard output."""
        print(flush=True)
        self._begun = False

    def shows(self, stem: epath.Path | None) -> bool:
        """Whether a file's segments are shown."""
        return stem is None and "txt" in self._formats

    @property
    def begun(self) -> bool:
        """Whether a line stands open."""
        return self._begun


def coloured(words: Iterable[Word]) -> Text:
    """A text, each word in the colour of its confidence."""
    text = Text()
    for word in words:
        text.append(" " * (word.blank and bool(text)))
        text.append(word.text, colour_of(word.confidence))
    return text


def colour_of(confidence: float) -> str:
    """Green for what is sure, then yellow, orange, red."""
    return next(colour for least, colour in _COLOURS if confidence >= least)


def _write(output: epath.Path, text: str) -> None:
    try:
        write(output, text + "\n")
    except OSError as error:
        raise WhisfusionError(f"{output}: {error.strerror}") from None
