"""OpenTelemetry: spans and metrics of checks, hooks and the store. Needs the extra `otel`.

Spans and metrics contain no token, key, CSRF value or identity. All labels come from fixed sets, so that
clients cannot inflate their number.

Metrics:

| name                          | kind               | attributes                |
|-------------------------------|--------------------|---------------------------|
| `async_jwt.check.duration`    | histogram, seconds | outcome, location, type   |
| `async_jwt.hook.duration`     | histogram, seconds | hook, outcome             |
| `async_jwt.store.duration`    | histogram, seconds | call, outcome             |
| `async_jwt.tokens.issued`     | counter            | type                      |
| `async_jwt.tokens.reused`     | counter            | kind                      |
| `async_jwt.tokens.repeated`   | counter            |                           |
| `async_jwt.revocations`       | counter            | scope                     |
| `async_jwt.store.available`   | gauge: 1 or 0      |                           |
| `async_jwt.store.refused`     | counter            |                           |
| `async_jwt.store.let_through` | counter            |                           |
| `async_jwt.store.data_losses` | counter            |                           |
| `async_jwt.store.staleness`   | gauge, seconds     |                           |
| `async_jwt.store.mirrored`    | gauge              |                           |
| `async_jwt.store.clock_ahead` | gauge, seconds     |                           |

All have the attribute `app`, the application's name. The outcome of a check is "accepted", "anonymous",
or the error code that clients get. The outcome of a hook or store call is "ok", an error code, "error"
for one of the application's own exceptions, or "cancelled". The type of a token is "access", "refresh" or
"purpose". A check in a named realm has its name as the attribute `realm`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider

from async_jwt.app_state import AppState
from async_jwt.core.observer import Kind, Measurement, kind_of, outcome_of
from async_jwt.errors import JWTExtendedException
from async_jwt.manager import app_state_of
from async_jwt.signals import token_issued, token_repeated, token_reused, token_revoked
from async_jwt.stores.wrapped import CONNECTIONS, wrapped

__all__ = ["instrument", "uninstrument"]

_NAME: Final = "async_jwt"


def instrument(
    app: Any,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Measure an application's checks, hooks and store. Call it once, after `JWTManager(app)`.

    Args:
        app: a Quart or Flask application.
        tracer_provider: where spans go; None uses OpenTelemetry's global one.
        meter_provider: where metrics go; likewise.

    Raises:
        RuntimeError: the application has no `JWTManager`, or is already instrumented.
    """
    app_state = app_state_of(app)
    if app_state.observer is not None:
        raise RuntimeError(f"The application {app.name!r} is already instrumented")
    app_state.observe(_Telemetry(app_state, tracer_provider, meter_provider))


def uninstrument(app: Any) -> None:
    """Stop measuring.

    Raises:
        RuntimeError: the application has no `JWTManager`.
    """
    app_state = app_state_of(app)
    observer = app_state.observer
    if isinstance(observer, _Telemetry):
        observer.end()
        app_state.observe(None)


class _Telemetry:
    """Observer that reports to OpenTelemetry; see `core/observer.py`."""

    def __init__(
        self, app_state: AppState, tracers: TracerProvider | None, meters: MeterProvider | None
    ) -> None:
        self._app_state = app_state
        self._app = {"app": app_state.app.name}
        self._is_over = False
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracers)
        meter = metrics.get_meter(_NAME, meter_provider=meters)
        self._durations = {
            kind: meter.create_histogram(f"async_jwt.{kind}.duration", "s", about)
            for kind, about in (
                ("check", "Duration of request checks."),
                ("hook", "Duration of the application's hooks."),
                ("store", "Duration of store calls."),
            )
        }
        self._issued = meter.create_counter("async_jwt.tokens.issued", "{token}", "Tokens issued.")
        self._reused = meter.create_counter(
            "async_jwt.tokens.reused", "{token}", "Replays of refresh tokens."
        )
        self._repeated = meter.create_counter(
            "async_jwt.tokens.repeated", "{token}", "Refresh tokens repeated late, twice in a row or more."
        )
        self._revoked = meter.create_counter("async_jwt.revocations", "{revocation}", "Revocations stored.")
        self._watch_status(meter)
        for signal, receiver in self._receivers():
            signal.connect(receiver, sender=app_state.app)

    def end(self) -> None:
        """Disconnect the signals and stop reporting."""
        for signal, receiver in self._receivers():
            signal.disconnect(receiver, sender=self._app_state.app)
        self._is_over = True

    @contextmanager
    def measure(self, kind: Kind, name: str) -> Iterator[Measurement]:
        """Measure one operation, which ends with the context."""
        measurement = Measurement()
        title = "async_jwt.check" if kind == "check" else f"async_jwt.{kind} {name}"
        start = time.perf_counter()
        span_kind = SpanKind.CLIENT if kind == "store" else SpanKind.INTERNAL
        # Exceptions are not recorded: their texts may contain application data.
        with self._tracer.start_as_current_span(
            title, kind=span_kind, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield measurement
            except BaseException as error:
                measurement.outcome = outcome_of(error)
                status = error.status if isinstance(error, JWTExtendedException) else 500
                if isinstance(error, Exception) and status >= 500:
                    span.set_status(StatusCode.ERROR, measurement.outcome)
                raise
            finally:
                labels = {**self._app, "outcome": measurement.outcome, **measurement.details}
                if kind != "check":
                    labels["hook" if kind == "hook" else "call"] = name
                for label, value in labels.items():
                    span.set_attribute(f"async_jwt.{label}", value)
                self._durations[kind].record(time.perf_counter() - start, labels)

    def store(self, store: Any) -> Any:
        """Return the store with each call observed; a store that never waits is returned as is."""
        if getattr(store, "awaits_nothing", False):
            return store
        return wrapped(store, lambda name, call: call if name in CONNECTIONS else _observed(call, name, self))

    def _receivers(self) -> Iterable[tuple[Any, Callable[..., None]]]:
        return (
            (token_issued, self._note_issued),
            (token_repeated, self._note_repeated),
            (token_reused, self._note_reused),
            (token_revoked, self._note_revoked),
        )

    def _note_issued(self, _: Any, *, type: Any, **__: Any) -> None:
        self._issued.add(1, {**self._app, "type": kind_of(type)})

    def _note_reused(self, _: Any, *, kind: str, **__: Any) -> None:
        self._reused.add(1, {**self._app, "kind": kind})

    def _note_repeated(self, _: Any, **__: Any) -> None:
        self._repeated.add(1, self._app)

    def _note_revoked(self, _: Any, *, scope: str, **__: Any) -> None:
        self._revoked.add(1, {**self._app, "scope": scope})

    def _watch_status(self, meter: Meter) -> None:
        """Report the store's own numbers whenever metrics are collected."""
        gauges = {
            "available": ("", "1 if the store answers, 0 if not."),
            "staleness": ("s", "How far answers from the mirror may be behind."),
            "mirrored": ("{revocation}", "Revocations in the mirror."),
            "clock_ahead": ("s", "How far the store's clock is ahead of this machine's."),
        }
        counters = {
            "refused": ("{call}", "Calls that the store did not answer."),
            "let_through": ("{check}", "Checks that an outage let through."),
            "data_losses": ("{loss}", "Times that the store lost revocations."),
        }
        for name, (unit, about) in gauges.items():
            meter.create_observable_gauge(f"async_jwt.store.{name}", [self._reader(name)], unit, about)
        for name, (unit, about) in counters.items():
            meter.create_observable_counter(f"async_jwt.store.{name}", [self._reader(name)], unit, about)

    def observations(self, name: str) -> Iterable[Observation]:
        """Return one of the current store's numbers, or nothing if it has none."""
        status = None if self._is_over else getattr(self._app_state.store, "status", None)
        value = None if status is None else getattr(status(), name, None)
        if value is None:
            return ()
        return (Observation(int(value) if isinstance(value, bool) else value, self._app),)

    def _reader(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        mine = weakref.ref(self)  # a meter keeps callbacks forever, and must not keep the application

        def read(_: CallbackOptions) -> Iterable[Observation]:
            telemetry = mine()
            return () if telemetry is None else telemetry.observations(name)

        return read


def _observed(call: Callable[..., Any], name: str, telemetry: _Telemetry) -> Callable[..., Any]:
    async def observed(*args: Any, **kwargs: Any) -> Any:
        with telemetry.measure("store", name):
            return await call(*args, **kwargs)

    return observed
