"""The server: OpenAI's routes for speech, and what those who run it look at."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.read import audio_pieces
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.serving.answers import FORMATS, answer, events
from whisfusion_jax.serving.requests import BusyError, Requests
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


@dataclass(frozen=True)
class ServerConfig:
    """What a server allows."""

    model: str
    """The name that it answers to, beside any other."""
    task: str = "transcribe"
    """What its transcriber does."""
    key: str | None = None
    """That clients must send as a bearer token."""
    most: int = 64
    """Requests under way; further ones are told to come again."""
    megabytes: float = 100.0
    """Of a body."""
    seconds: float = 4 * 3600.0
    """Of a recording."""
    patience: float = 0.01
    """Seconds that a batch waits for others to fill it."""


class _Metrics:
    """For Prometheus."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        named = "whisfusion_"
        self.requests = Counter(f"{named}requests", "Requests.", ["status"], registry=registry)
        self.audio = Counter(f"{named}audio_seconds", "Seconds transcribed.", registry=registry)
        self.computing = Counter(
            f"{named}computing_seconds", "Seconds of batches, shared out.", registry=registry
        )
        self.latency = Histogram(
            f"{named}latency_seconds", "From accepted to written.", registry=registry
        )
        self.under_way = Gauge(f"{named}under_way", "Requests not answered.", registry=registry)


def _error(status: int, message: str, **headers: str) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    fields = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return JSONResponse(fields, status, headers)


class _TooLongError(WhisfusionError):
    """A recording is longer than allowed."""


def make_app(transcriber: Transcriber, config: ServerConfig) -> FastAPI:
    """A server around a transcriber that has word times.

    It compiles everything before `/ready` says yes, and finishes what it accepted when it is ended.
    """
    metrics, ready = _Metrics(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.requests = Requests(transcriber, config.most, config.patience)

        async def warm_up() -> None:
            await asyncio.to_thread(transcriber.warm_up)
            ready.set()

        warming = asyncio.create_task(warm_up())
        yield
        warming.cancel()
        await asyncio.to_thread(app.state.requests.close)

    app = FastAPI(title="whisfusion_jax", lifespan=lifespan)

    @app.middleware("http")
    async def guard(
        request: Request, further: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if not request.url.path.startswith("/v1"):
            return await further(request)
        response = _refused(request, config, ready.is_set()) or await further(request)
        metrics.requests.labels(response.status_code).inc()
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def is_ready() -> Response:
        return JSONResponse({"status": "ready"}) if ready.is_set() else _starting()

    @app.get("/metrics")
    async def exposed() -> Response:
        metrics.under_way.set(app.state.requests.under_way)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        known = {"id": config.model, "object": "model", "created": 0, "owned_by": "whisfusion_jax"}
        return {"object": "list", "data": [known]}

    async def write(form: "_Form", task: str) -> Response:
        if task != config.task:
            return _error(400, f"this server was started to {config.task}, not to {task}")
        if form.prompt:
            return _error(400, "prompt: is given where this server is started (--initial-prompt)")
        if form.response_format not in FORMATS:
            return _error(400, f"response_format: one of {', '.join(FORMATS)}")
        language = form.language or None
        try:
            transcriber.check_language(language)
            samples = await asyncio.to_thread(_samples, form.body, config.seconds)
            transcript = await _written(app.state.requests, samples, language, metrics)
        except _TooLongError as error:
            return _error(413, str(error))
        except BusyError as error:
            return _error(429, str(error), **{"Retry-After": "1"})
        except (AudioError, WhisfusionError) as error:
            return _error(400, str(error))
        if form.stream:
            return StreamingResponse(events(transcript), media_type="text/event-stream")
        body, kind = answer(transcript, form.response_format, task, form.granularities)
        return Response(body, media_type=kind)

    for task, path in ("transcribe", "transcriptions"), ("translate", "translations"):
        app.add_api_route(f"/v1/audio/{path}", _route(write, task), methods=["POST"])
    return app


@dataclass(frozen=True)
class _Form:
    """What a client sends."""

    body: bytes
    language: str | None
    prompt: str | None
    response_format: Any
    granularities: list[str]
    stream: bool


def _route(
    write: Callable[[_Form, str], Awaitable[Response]], task: str
) -> Callable[..., Awaitable[Response]]:
    async def route(
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form()],
        language: Annotated[str | None, Form()] = None,
        prompt: Annotated[str | None, Form()] = None,
        response_format: Annotated[str, Form()] = "json",
        temperature: Annotated[float, Form(ge=0, le=1)] = 0.0,
        granularities: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None,
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        body = await file.read()
        form = _Form(body, language, prompt, response_format, granularities or [], stream)
        return await write(form, task)

    return route


def _refused(request: Request, config: ServerConfig, ready: bool) -> Response | None:
    """What a request is answered before its body is read, if it may not go further."""
    if config.key is not None:
        given = request.headers.get("authorization", "").encode()
        if not secrets.compare_digest(given, f"Bearer {config.key}".encode()):
            return _error(401, "the API key is missing or wrong")
    if not ready and request.method == "POST":
        return _starting()
    size = request.headers.get("content-length", "")
    if request.method == "POST" and not size.isdecimal():
        return _error(411, "the body's length is missing")
    if size.isdecimal() and int(size) > config.megabytes * 1e6:
        return _error(413, f"a body may have {config.megabytes:g} MB")
    return None


def _starting() -> JSONResponse:
    return _error(503, "starting: programs are being compiled", **{"Retry-After": "5"})


def _samples(body: bytes, most: float) -> np.ndarray:
    """A recording's samples, [n] float32; it is read no further than it may be long.

    Raises:
        AudioError: it can't be read.
        _TooLongError: it is longer.
    """
    lost: list[str] = []
    parts, count = [], 0
    for part in audio_pieces(BytesIO(body), lost.append):
        parts.append(part)
        count += len(part)
        if count > most * SAMPLE_RATE:
            raise _TooLongError(f"a recording may have {most:g} s")
    return np.concatenate(parts)


async def _written(
    requests: Requests, samples: np.ndarray, language: str | None, metrics: _Metrics
) -> Transcript:
    with metrics.latency.time():
        future = requests.ask(samples, language)
        try:
            transcript = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except CancelledError:
            raise BusyError("the server is being stopped") from None
    metrics.audio.inc(transcript.seconds)
    metrics.computing.inc(transcript.compute_seconds)
    return transcript
