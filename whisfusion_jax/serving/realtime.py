"""OpenAI's realtime transcription protocol: PCM in, words as they stand and whole utterances out.

Both of its forms: `session.update` (2025-08 on) and the beta's `transcription_session.update`.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import soxr
from starlette.websockets import WebSocket, WebSocketDisconnect

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.serving.guard import error_fields
from whisfusion_jax.serving.live import Began, Ended, Event, Live, Stands, Written
from whisfusion_jax.transcription.transcriber import Transcriber

_RATES = range(8_000, 192_001)
_RATE = 24_000
"""Samples a second where nothing else is said."""
_BETA = "openai-beta.realtime-v1"


class Resampler:
    """PCM of 16 bits as it comes, to 16 kHz."""

    def __init__(self, rate: int) -> None:
        """Raises WhisfusionError: no such rate is sound."""
        if rate not in _RATES:
            raise WhisfusionError(f"rate {rate}: from {_RATES[0]} to {_RATES[-1]}")
        self.rate = rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="MQ")
        self._rest = b""

    def __call__(self, data: bytes) -> np.ndarray:
        """Little-endian samples, which may be torn between two messages: [n] float32."""
        data = self._rest + data
        whole = len(data) // 2 * 2
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
        return samples if self.rate == SAMPLE_RATE else self._stream.resample_chunk(samples)


class Realtime:
    """One client's session."""

    def __init__(
        self,
        socket: WebSocket,
        live: Live,
        model: str,
        transcriber: Transcriber,
    ) -> None:
        """Take over a connection that isn't accepted yet.

        Args:
            live: its captions; what the client asks for is set there.
            transcriber: says which languages and prompts may be asked for.
        """
        self._socket, self._live, self._model = socket, live, model
        self._transcriber = transcriber
        offered = socket.scope.get("subprotocols", [])
        self._beta = _BETA in offered or "realtime=v1" in socket.headers.get("openai-beta", "")
        self._subprotocol = "realtime" if "realtime" in offered else None
        self._resampler = Resampler(_RATE)
        self._silence = live.captions.config.silence or 1.0
        """Seconds that end an utterance where the client doesn't say."""
        self._prompt = ""
        self._id = _id("sess")
        self._items: dict[int, str] = {}
        """By their utterances' numbers."""

    async def run(self) -> None:
        """Serve it until the client leaves."""
        await self._socket.accept(self._subprotocol)
        await self._send(f"{self._named}.created", session=self._session())
        sending = asyncio.create_task(self._tell())
        try:
            with contextlib.suppress(WebSocketDisconnect):
                while True:
                    await self._take(await self._socket.receive_text())
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    @property
    def _named(self) -> str:
        return "transcription_session" if self._beta else "session"

    async def _take(self, text: str) -> None:
        """Do what one message of the client says; what it can't mean is answered with an error."""
        event_id = None
        try:
            event = json.loads(text)
            event_id, kind = event.get("event_id"), event["type"]
            if kind == "input_audio_buffer.append":
                data = base64.b64decode(event["audio"], validate=True)
                await self._live.add(self._resampler(data))
            elif kind == "input_audio_buffer.commit":
                self._live.commit()
            elif kind == "input_audio_buffer.clear":
                self._live.captions.clear()
                await self._send("input_audio_buffer.cleared")
            elif kind in ("session.update", "transcription_session.update"):
                self._update(event["session"])
                await self._send(f"{kind}d", session=self._session())
            else:
                raise WhisfusionError(f"type: {kind!r} is none of a transcription's")
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
            named = (
                str(error) if isinstance(error, WhisfusionError) else f"not understood: {error!r}"
            )
            fields = error_fields(400, named)["error"]
            await self._send("error", error={**fields, "event_id": event_id})

    def _update(self, session: dict[str, Any]) -> None:
        """Set what a client asks for, of either form; raises as `_take` answers."""
        given = session.get("audio", {}).get("input", {})
        form = given.get("format", session.get("input_audio_format"))
        if form is not None:
            kind, rate = (form["type"], form.get("rate", _RATE)) if isinstance(form, dict) else (
                form, _RATE
            )  # fmt: skip
            if kind not in ("audio/pcm", "pcm16"):
                raise WhisfusionError(f"format: {kind!r}; audio/pcm alone is understood")
            if rate != self._resampler.rate:
                self._resampler = Resampler(rate)
        heard = given.get("transcription", session.get("input_audio_transcription")) or {}
        captions = self._live.captions
        if heard.get("language"):
            captions.language = self._transcriber.prompts.check_language(heard["language"])
        if "prompt" in heard:
            prompt = heard["prompt"] or ""
            self._live.earlier = self._transcriber.prompts.earlier(prompt)
            self._prompt = prompt
        turns = {**session, **given}
        if "turn_detection" in turns:
            turn = turns["turn_detection"]
            silence = None
            if turn is not None:
                silence = turn.get("silence_duration_ms", 1000 * self._silence) / 1000
                if not 0.1 <= silence <= 10:
                    raise WhisfusionError("silence_duration_ms: from 100 to 10000")
            captions.config = replace(captions.config, silence=silence)

    def _session(self) -> dict[str, Any]:
        captions = self._live.captions
        silence = captions.config.silence
        turn = None if silence is None else {
            "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300,
            "silence_duration_ms": round(1000 * silence),
        }  # fmt: skip
        heard = {"model": self._model, "language": captions.language, "prompt": self._prompt}
        if self._beta:
            return {
                "id": self._id, "object": "realtime.transcription_session",
                "input_audio_format": "pcm16", "input_audio_transcription": heard,
                "turn_detection": turn,
            }  # fmt: skip
        form = {"type": "audio/pcm", "rate": self._resampler.rate}
        return {
            "id": self._id, "object": "realtime.session", "type": "transcription",
            "audio": {"input": {"format": form, "transcription": heard, "turn_detection": turn}},
        }  # fmt: skip

    async def _tell(self) -> None:
        """Send what becomes known, until nobody reads it."""
        try:
            async for event in self._live.events():
                await self._tell_of(event)
        except WebSocketDisconnect:
            return
        except WhisfusionError as error:
            await self._send("error", error={**error_fields(500, str(error))["error"]})
            await self._socket.close(1011)

    async def _tell_of(self, event: Event) -> None:
        utterance = event.utterance
        before = self._items.get(utterance.number - 1)
        item = self._items.setdefault(utterance.number, _id("item"))
        begin = 1000 * utterance.begin // SAMPLE_RATE
        if isinstance(event, Began):
            await self._send(
                "input_audio_buffer.speech_started", audio_start_ms=begin, item_id=item
            )
        elif isinstance(event, Ended):
            end = begin + 1000 * len(utterance.samples) // SAMPLE_RATE
            await self._send("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item)
            links = {"item_id": item, "previous_item_id": before}
            await self._send("input_audio_buffer.committed", **links)
            content = {
                "id": item, "type": "message", "role": "user", "status": "completed",
                "content": [{"type": "input_audio", "transcript": None}],
            }  # fmt: skip
            for kind in ["created"] if self._beta else ["added", "done"]:
                await self._send(f"conversation.item.{kind}", item=content, previous_item_id=before)
        elif isinstance(event, Stands):
            await self._send_transcription("delta", item, delta=event.delta)
        elif isinstance(event, Written):
            if event.rest:
                await self._send_transcription("delta", item, delta=event.rest)
            seconds = round(len(utterance.samples) / SAMPLE_RATE, 3)
            await self._send_transcription(
                "completed",
                item,
                transcript=event.text,
                usage={"type": "duration", "seconds": seconds},
            )

    async def _send_transcription(self, kind: str, item: str, **fields: Any) -> None:
        named = f"conversation.item.input_audio_transcription.{kind}"
        await self._send(named, item_id=item, content_index=0, **fields)

    async def _send(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, "event_id": _id("event"), **fields}, ensure_ascii=False)
        await self._socket.send_text(text)


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(10)}"
