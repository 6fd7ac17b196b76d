"""Figures for Prometheus: requests, the inference queue, labels, trainings, and the process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from rarevoxel.server.guard.turns import Turns

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """Counts what the guard sees.

    Args:
        turns: the inference queue.
    """

    def __init__(self, turns: Turns) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Counter("rarevoxel_requests", "Requests answered", labels, registry=self.registry)
        self._latency = Histogram(
            "rarevoxel_request_seconds",
            "Time to answer",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._inferences = Counter("rarevoxel_inferences", "Inferences", ("outcome",), registry=self.registry)
        self._labels = Counter("rarevoxel_labels", "Labels submitted", ("outcome",), registry=self.registry)
        self._trainings = Counter("rarevoxel_trainings_started", "Trainings started", registry=self.registry)
        waiting = Gauge("rarevoxel_inference_queue", "Inferences that wait", registry=self.registry)
        waiting.set_function(lambda: turns.waiting)
        running = Gauge("rarevoxel_inferences_running", "Inferences under way", registry=self.registry)
        running.set_function(lambda: turns.running)
        # Named once, so that a rate can be taken from the first scrape on.
        for counter, outcomes in ((self._labels, ("accepted", "rejected")), (self._inferences, ("done", "refused"))):
            for outcome in outcomes:
                counter.labels(outcome)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer.

        Args:
            method: HTTP method.
            route: template of the path; never the path itself, which may name a case.
            status: HTTP status.
            seconds: time to answer.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(seconds)
        good = status < 400
        if (method, route) == ("POST", "/infer/{model}"):
            self._inferences.labels("done" if good else "refused").inc()
        elif (method, route) == ("PUT", "/datastore/label"):
            self._labels.labels("accepted" if good else "rejected").inc()
        elif (method, route) == ("POST", "/train/{model}") and good:
            self._trainings.inc()

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return bytes(generate_latest(self.registry))
