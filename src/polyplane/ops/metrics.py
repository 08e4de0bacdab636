"""Metrics: counted here for HTTP, read from the plane for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

Family = CounterMetricFamily | GaugeMetricFamily


class Sample(NamedTuple):
    """One figure read at the moment of a scrape. `name` carries its unit last."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Metrics:
    """What one process counts about its HTTP side, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "polyplane_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "polyplane_http_request_seconds",
            "From the first byte of the request to the last of the response.",
            ("method", "route"),
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self._refused = Counter(
            "polyplane_http_refused",
            "Requests refused unseen, because there were too many at once.",
            registry=self._registry,
        )

    def refuse(self) -> None:
        """One request was refused unseen: there were too many at once."""
        self._refused.inc()

    def count(self, method: str, route: str, status: int, latency_s: float) -> None:
        """One request was answered. `route` is a template, so that there are few of them."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(latency_s)

    def render(self, samples: Iterable[Sample]) -> bytes:
        """Everything counted here and `samples`, in Prometheus' text format."""
        once = CollectorRegistry()
        once.register(_Read(tuple(samples)))
        return generate_latest(self._registry) + generate_latest(once)


class _Read(Collector):
    """Figures read elsewhere, as the families a registry wants."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        """One family per name, in the order the names came."""
        families: dict[str, Family] = {}
        for name, kind, text, value, labels in self._samples:
            if name not in families:
                names = [label for label, _ in labels]
                family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                families[name] = family(name, text, labels=names)
            families[name].add_metric([shown for _, shown in labels], value)
        yield from families.values()
