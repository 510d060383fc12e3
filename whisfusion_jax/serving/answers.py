"""Transcripts as OpenAI's API answers with them."""

import json
import zlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

from whisfusion_jax.transcription.transcript import Segment, Transcript

Format = Literal["json", "text", "srt", "vtt", "verbose_json", "detailed_json"]
FORMATS: tuple[Format, ...] = get_args(Format)
Granularity = Literal["segment", "word"]
_KINDS = {"srt": "application/x-subrip", "vtt": "text/vtt", "text": "text/plain"}


def answer(
    transcript: Transcript, wanted: Format, task: str, granularities: Sequence[str]
) -> tuple[str, str]:
    """The body, and its media type.

    Args:
        granularities: of what verbose_json has besides the text; nothing is segments.
    """
    if wanted == "json":
        return json.dumps({"text": transcript.text}, ensure_ascii=False), "application/json"
    if wanted == "verbose_json":
        fields = _verbose(transcript, task, granularities or ("segment",))
        return json.dumps(fields, ensure_ascii=False), "application/json"
    if wanted == "detailed_json":  # ours: what `transcribe --format json` writes
        return transcript.to_json(""), "application/json"
    if wanted == "text":
        return transcript.text + "\n", _KINDS[wanted]
    text = transcript.to_srt() if wanted == "srt" else transcript.to_vtt()
    return text + "\n", _KINDS[wanted]


def delta_event(segment: Segment, first: bool) -> str:
    """A server-sent event of one segment more.

    Args:
        first: nothing is written before it.
    """
    delta = " " * (not first and segment.blank) + segment.text
    return event({"type": "transcript.text.delta", "delta": delta})


def done_event(transcript: Transcript) -> str:
    """A server-sent event of the whole text."""
    return event({"type": "transcript.text.done", "text": transcript.text})


def event(fields: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(fields, ensure_ascii=False)}\n\n"


def _verbose(transcript: Transcript, task: str, granularities: Sequence[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task": task,
        "language": transcript.language or "en",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
    }
    if "segment" in granularities:
        fields["segments"] = [
            {
                "id": number,
                "seek": round(100 * segment.start),
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": list(segment.tokens),
                "temperature": 0.0,
                "avg_logprob": segment.avg_logprob,
                "compression_ratio": _ratio(segment.text),
                "no_speech_prob": segment.no_speech_prob or 0.0,
            }
            for number, segment in enumerate(transcript.segments)
        ]
    if "word" in granularities:
        fields["words"] = [
            {"word": word.text, "start": word.start, "end": word.end} for word in transcript.words
        ]
    return fields


def _ratio(text: str) -> float:
    """As openai/whisper has it: how much shorter a text becomes by compression."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
