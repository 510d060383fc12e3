"""Live captions in our own, plain protocol: bytes in, JSON out, guesses included.

Bytes are PCM of 16 bits (`?rate=`), or a container that is made while it is recorded, such as WebM
of a browser's MediaRecorder. The text `end` says that nothing more comes.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.serving.live import Event, Guessed, Live, Stands, Written
from whisfusion_jax.serving.media import Media, MediaStream
from whisfusion_jax.serving.realtime import Resampler
from whisfusion_jax.transcription.words import joined


async def serve_stream(socket: WebSocket, live: Live, media: Media) -> None:
    """Serve one connection until it has been told everything, or leaves."""
    offered = socket.scope.get("subprotocols", [])
    await socket.accept("whisfusion" if "whisfusion" in offered else None)
    telling = asyncio.create_task(_tell(socket, live))
    try:
        rate = socket.query_params.get("rate")
        if rate is None:
            await _take_container(socket, live, media)
        else:
            resampler = Resampler(int(rate) if rate.isdecimal() else 0)
            await _take(socket, lambda data: live.add(resampler(data)))
        live.end()
        await telling
        await socket.close()
    except WebSocketDisconnect:
        pass
    except WhisfusionError as error:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_text(json.dumps({"type": "error", "message": str(error)}))
            await socket.close(1008)
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, WhisfusionError):
            await telling


async def _take(socket: WebSocket, add: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand on what comes, up to the end."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if message.get("text") is not None:
            if message["text"] == "end":
                return
            raise WhisfusionError("a text: `end` is the only one")
        await add(message["bytes"])


async def _take_container(socket: WebSocket, live: Live, media: Media) -> None:
    loop = asyncio.get_running_loop()

    def decoded(samples: np.ndarray) -> None:
        asyncio.run_coroutine_threadsafe(live.add(samples), loop).result()

    stream: MediaStream = media.stream(decoded)
    try:
        await _take(socket, lambda data: asyncio.to_thread(stream.add, data))
        await asyncio.to_thread(stream.end)
    finally:
        await asyncio.to_thread(stream.close)


async def _tell(socket: WebSocket, live: Live) -> None:
    async for event in live.events():
        fields = _fields(event)
        if fields:
            await socket.send_text(json.dumps(fields, ensure_ascii=False))


def _fields(event: Event) -> dict[str, Any] | None:
    utterance = event.utterance
    if isinstance(event, Stands):
        words = [asdict(word) for word in event.words]
        return {
            "type": "words", "utterance": utterance.number, "delta": event.delta, "words": words
        }  # fmt: skip
    if isinstance(event, Guessed):
        guess = joined((word.text, word.blank) for word in utterance.guess)
        return {"type": "guess", "utterance": utterance.number, "text": guess}
    if isinstance(event, Written):
        begin = utterance.begin / SAMPLE_RATE
        return {
            "type": "text", "utterance": utterance.number, "text": event.text,
            "start": begin, "end": begin + len(utterance.samples) / SAMPLE_RATE,
        }  # fmt: skip
    return None
