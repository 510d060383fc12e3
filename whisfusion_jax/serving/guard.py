"""Who may come in, and how much of a body is read: in front of all routes."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from whisfusion_jax.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_PROTOCOL_KEY = "openai-insecure-api-key."
"""How a browser's WebSocket gives the key: as OpenAI's own clients do."""


def error_fields(status: int, message: str) -> dict[str, Any]:
    """An error as OpenAI's API answers it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


@dataclass(frozen=True)
class Guard:
    """ASGI middleware; paths outside `/v1` are open."""

    app: Any
    metrics: Metrics
    ready: asyncio.Event
    key: str | None
    most_bytes: int
    """Of a body."""
    body_seconds: float
    """That a body may take to come."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if scope["type"] == "websocket":
            if refused:  # before it is accepted: the client sees HTTP 403
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
                return
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(message["status"]).inc()
            await send(message)

        if refused:
            await _answer(counted, *refused)
        else:
            await self.app(scope, self._limited(receive), counted)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return 403, "a page of another site may not ask here"
        if self.key is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            for each in headers.get("sec-websocket-protocol", "").split(","):
                if each.strip().startswith(_PROTOCOL_KEY):
                    given = each.strip().removeprefix(_PROTOCOL_KEY)
            if not secrets.compare_digest(given.encode(), self.key.encode()):
                return 401, "the API key is missing or wrong"
        if not self.ready.is_set() and scope.get("method") != "GET":
            return 503, "starting: programs are being compiled"
        size = headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > self.most_bytes:
            return 413, self._too_large()
        return None

    def _limited(self, receive: Receive) -> Receive:
        """What comes of a body, no more and no longer than may be."""
        read, begin, whole = 0, asyncio.get_running_loop().time(), False

        async def limited() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(begin + self.body_seconds):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, f"the body took more than {self.body_seconds:g} s to come"
                ) from None
            read += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if read > self.most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"a body may have {self.most_bytes / 1e6:g} MB"


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_fields(status, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
