"""The server: OpenAI's routes for speech, live captions, and a page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.serving.answers import FORMATS, answer, delta_event, done_event, event
from whisfusion_jax.serving.guard import Guard, error_fields
from whisfusion_jax.serving.live import Live
from whisfusion_jax.serving.media import Media, TooLongError
from whisfusion_jax.serving.metrics import Metrics
from whisfusion_jax.serving.realtime import Realtime
from whisfusion_jax.serving.requests import BusyError, Requests
from whisfusion_jax.serving.stream import serve_stream
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.captions import CaptionsConfig
from whisfusion_jax.transcription.fixing import Known
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.turns import Ask

# Nothing that clients send is written to disk, as larger files would be here.
MultiPartParser.spool_max_size = 1 << 40

_LEFT = 499
"""For who doesn't wait for an answer; nobody sees it but the metrics (nginx's number)."""


@dataclass(frozen=True)
class ServerConfig:
    """What a server allows."""

    model: str
    """The name that it answers to, beside any other."""
    key: str | None = None
    """That clients must send as a bearer token."""
    most: int = 64
    """Requests under way; further ones are told to come again."""
    megabytes: float = 100.0
    """Of a body."""
    body_seconds: float = 60.0
    """That a body may take to come."""
    seconds: float = 4 * 3600.0
    """Of a recording."""
    backlog: float = 8 * 3600.0
    """Seconds of sound that may wait to be written; who comes then is told to come again."""
    strict: bool = False
    """Damaged recordings are refused; otherwise what is in them is written."""
    decoders: int = 2
    """Processes that decode recordings, each one at a time."""
    decoding_seconds: float = 60.0
    """That decoding one may take."""
    streams: int = 16
    """Live captions at once."""
    patience: float = 0.01
    """Seconds that a batch waits for others to fill it."""
    captions: CaptionsConfig = field(default_factory=CaptionsConfig)


def _error(status: int, message: str, **headers: str) -> JSONResponse:
    return JSONResponse(error_fields(status, message), status, headers)


@dataclass(frozen=True)
class _Form:
    """What a client sends."""

    body: bytes
    language: str | None
    prompt: str | None
    response_format: Any
    granularities: list[str]
    fix: tuple[Known, ...]
    stream: bool


def make_app(transcriber: Transcriber, config: ServerConfig) -> FastAPI:
    """A server around a transcriber that has word times.

    It compiles everything before `/ready` says yes, and finishes what it accepted when it is ended.
    """
    metrics, ready = Metrics(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.media = await asyncio.to_thread(
            Media,
            config.decoders,
            config.seconds,
            config.decoding_seconds,
            config.streams,
            config.strict,
        )
        app.state.requests = Requests(transcriber, config.most, config.backlog, config.patience)

        async def warm_up() -> None:
            live = config.captions.window
            await asyncio.to_thread(transcriber.warm_up, live=live, earlier=True)
            ready.set()

        warming = asyncio.create_task(warm_up())
        yield
        warming.cancel()
        await asyncio.to_thread(app.state.requests.close)
        await asyncio.to_thread(app.state.media.close)

    app = FastAPI(title="whisfusion_jax", lifespan=lifespan)
    app.add_middleware(
        Guard,
        metrics=metrics,
        ready=ready,
        key=config.key,
        most_bytes=int(config.megabytes * 1e6),
        body_seconds=config.body_seconds,
    )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, error.detail)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def is_ready() -> Response:
        if ready.is_set():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "starting"}, 503, {"Retry-After": "5"})

    @app.get("/metrics")
    async def exposed() -> Response:
        found = metrics.exposed(app.state.requests.under_way, transcriber)
        return Response(found, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        known = {
            "id": config.model, "object": "model", "created": 0, "owned_by": "whisfusion_jax",
            "decoder": transcriber.decoder, "writes_on": transcriber.writes_on,
        }  # fmt: skip
        return {"object": "list", "data": [known]}

    async def write(request: Request, form: _Form, task: Task) -> Response:
        if form.fix and not transcriber.writes_on:
            decoder = transcriber.decoder
            return _error(400, f"fix[]: {decoder} writes on from no words that are known")
        if form.response_format not in FORMATS:
            return _error(400, f"response_format: one of {', '.join(FORMATS)}")
        language = form.language or None
        try:
            transcriber.prompts.check_language(language)
            transcriber.prompts.check_task(task)
            earlier = transcriber.prompts.earlier(form.prompt)
            async with AsyncExitStack() as held:
                held.enter_context(app.state.requests.place())
                held.enter_context(metrics.latency.time())
                samples = await _unless_left(request, app.state.media.decode(form.body))
                written = _Written()
                ask = Ask(samples, language, task, earlier=earlier, fix=form.fix)
                asked = app.state.requests.ask(ask, written.put)
                if form.stream:
                    held.callback(asked.cancel)
                    return _Streamed(_told(asked, written, metrics), held.pop_all())
                transcript = await _unless_left(request, asked)
        except _LeftError:
            return Response(status_code=_LEFT)
        except TooLongError as error:
            return _error(413, str(error))
        except (BusyError, CancelledError) as error:
            busy = str(error) or "the server is being stopped"
            return _error(429, busy, **{"Retry-After": "1"})
        except WhisfusionError as error:
            return _error(400, str(error))
        metrics.wrote(transcript)
        body, kind = answer(transcript, form.response_format, task, form.granularities)
        return Response(body, media_type=kind)

    tasks: dict[str, Task] = {"transcriptions": "transcribe", "translations": "translate"}
    for path, task in tasks.items():
        app.add_api_route(f"/v1/audio/{path}", _route(write, task), methods=["POST"])

    @asynccontextmanager
    async def captions(socket: WebSocket) -> AsyncIterator[Live | None]:
        """A place for one more; None, and a word to the client, where there is none."""
        if metrics.streams_under_way >= config.streams:
            await socket.send_denial_response(_error(429, "too many captions are under way"))
            yield None
            return
        language = socket.query_params.get("language") or None
        try:
            transcriber.prompts.check_language(language)
            earlier = transcriber.prompts.earlier(socket.query_params.get("prompt"))
        except WhisfusionError as error:
            await socket.send_denial_response(_error(400, str(error)))
            yield None
            return
        with metrics.captioning():
            tokenizer = transcriber.bundle.tokenizer
            live = Live(app.state.requests, tokenizer, language, config.captions)
            live.earlier = earlier
            yield live

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        async with captions(socket) as live:
            if live is not None:
                await Realtime(socket, live, config.model, transcriber).run()

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        async with captions(socket) as live:
            if live is not None:
                await serve_stream(socket, live, app.state.media)

    page = files("whisfusion_jax").joinpath("assets/page")
    app.mount("/", StaticFiles(directory=str(page), html=True), name="page")
    return app


def _route(
    write: Callable[[Request, _Form, Task], Awaitable[Response]], task: Task
) -> Callable[..., Awaitable[Response]]:
    async def route(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form()],
        language: Annotated[str | None, Form()] = None,
        prompt: Annotated[str | None, Form()] = None,
        response_format: Annotated[str, Form()] = "json",
        temperature: Annotated[float, Form(ge=0, le=1)] = 0.0,
        granularities: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None,
        fix: Annotated[list[str] | None, Form(alias="fix[]")] = None,
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        body = await file.read()
        try:
            known = tuple(Known.parse(text) for text in fix or ())
        except WhisfusionError as error:
            return _error(400, str(error))
        wanted = granularities or []
        form = _Form(body, language, prompt, response_format, wanted, known, stream)
        return await write(request, form, task)

    return route


class _Streamed(StreamingResponse):
    """Server-sent events, and what is held until they are sent."""

    def __init__(self, told: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(told, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


class _Written:
    """Segments on their way from the thread that writes; None is behind the last."""

    def __init__(self) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Segment | None]()

    def put(self, segment: Segment | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, segment)

    async def get(self) -> Segment | None:
        return await self._queue.get()


async def _told(
    asked: Future[Transcript], written: _Written, metrics: Metrics
) -> AsyncIterator[str]:
    """A delta for each segment once it is written, then the whole text, or why there is none."""
    asked.add_done_callback(lambda _: written.put(None))
    first = True
    try:
        while (segment := await written.get()) is not None:
            if segment.text:
                yield delta_event(segment, first)
                first = False
        transcript = asked.result()
        metrics.wrote(transcript)
        yield done_event(transcript)
    except (WhisfusionError, CancelledError) as error:
        yield event({"type": "error", **error_fields(500, str(error) or "being stopped")})


class _LeftError(Exception):
    """Who asked is no longer there."""


async def _unless_left(request: Request, asked: Future[Any]) -> Any:
    """What was asked for; cancelled once the client has left."""
    wanted = asyncio.wrap_future(asked)
    leaving = asyncio.create_task(_leaves(request))
    try:
        await asyncio.wait((wanted, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise _LeftError
        return wanted.result()
    finally:
        leaving.cancel()
        wanted.cancel()
        # An error that is raised here would keep them, and they it, and so what was sent.
        del asked, wanted


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
