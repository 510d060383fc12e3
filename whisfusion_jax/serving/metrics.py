"""What those who run a server look at, for Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


class Metrics:
    """Counts, and a histogram of latencies."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        named = "whisfusion_"
        self.requests = Counter(f"{named}requests", "Requests.", ["status"], registry=registry)
        self.latency = Histogram(
            f"{named}latency_seconds",
            "From accepted to written.",
            registry=registry,
            buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
        )
        self._audio = Counter(f"{named}audio_seconds", "Seconds transcribed.", registry=registry)
        self._computing = Counter(
            f"{named}computing_seconds", "Seconds of batches, shared out.", registry=registry
        )
        self._under_way = Gauge(f"{named}under_way", "Requests not answered.", registry=registry)
        self._captions = Gauge(f"{named}captions", "Live captions under way.", registry=registry)
        self.streams_under_way = 0
        self._rtfx = Gauge(
            f"{named}rtfx", "Seconds of audio per second of computing.", registry=registry
        )
        self._fill = Gauge(
            f"{named}batch_fill",
            "Of the rows of batches, those that were asked.",
            registry=registry,
        )
        self._sums = [0.0, 0.0]
        """Seconds of audio, and of computing."""

    def wrote(self, transcript: Transcript) -> None:
        """A request was answered."""
        for number, each in enumerate((transcript.seconds, transcript.compute_seconds)):
            self._sums[number] += each
        self._audio.inc(transcript.seconds)
        self._computing.inc(transcript.compute_seconds)

    @contextmanager
    def captioning(self) -> Iterator[None]:
        """Somebody's live captions are under way."""
        self.streams_under_way += 1
        try:
            yield
        finally:
            self.streams_under_way -= 1

    def exposed(self, under_way: int, transcriber: Transcriber) -> bytes:
        """In Prometheus' format."""
        self._under_way.set(under_way)
        self._captions.set(self.streams_under_way)
        audio, computing = self._sums
        self._rtfx.set(audio / computing if computing else 0.0)
        self._fill.set(transcriber.recogniser.fill)
        return generate_latest(self._registry)
