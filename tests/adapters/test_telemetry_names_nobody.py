"""OpenTelemetry: what is measured, with which labels, and that nothing secret is among it."""

from __future__ import annotations

import asyncio
import logging

import jwt as pyjwt
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from async_jwt.errors import WrongTokenError
from async_jwt.observe import instrument, uninstrument
from async_jwt.stores import MemoryStore
from async_jwt.testing import outage
from tests.harness import SECRET
from tests.harness.applications import (
    NEEDS_QUART,
    QuartHarness,
    however_it_runs,
    on_a_servers_loop,
    on_each_loop,
)

pytestmark = pytest.mark.asyncio


class Telemetry:
    """What OpenTelemetry was told."""

    def __init__(self):
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._metrics])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    def observe(self, h):
        instrument(h.app, tracer_provider=self.tracers, meter_provider=self.meters)
        return h

    @property
    def spans(self):
        return {span.name: span for span in self._spans.get_finished_spans()}

    def clear(self):
        self._spans.clear()

    def metrics(self):
        """By name: each set of labels and its value, or count."""
        found = {}
        data = self._metrics.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "async_jwt"
                for metric in scope.metrics:
                    found[metric.name] = {
                        tuple(sorted(point.attributes.items())): getattr(point, "count", None)
                        or getattr(point, "value", None)
                        for point in metric.data.data_points
                    }
        return found


@pytest.fixture
def telemetry():
    told = Telemetry()
    yield told
    told.tracers.shutdown()
    told.meters.shutdown()


def labels(**given):
    return tuple(sorted({"app": "tests", **given}.items()))


@however_it_runs
async def test_a_check_and_what_it_asked(harness, telemetry, redis_url):
    h = telemetry.observe(harness({"JWT_STORE_URI": f"{redis_url}?prefix=otel:&deadline=5"}))

    @h.jwt.user_lookup_loader
    async def user_of(header, claims):
        return {"id": claims["sub"]}

    async with h.serving():
        token = await h.mint()
        telemetry.clear()
        assert (await h.call("/me", token=token)).status == 200
    check, store, hook = (
        telemetry.spans[name]
        for name in ("async_jwt.check", "async_jwt.store check", "async_jwt.hook user_lookup")
    )
    assert dict(check.attributes) == {
        "async_jwt.app": "tests",
        "async_jwt.outcome": "accepted",
        "async_jwt.location": "headers",
        "async_jwt.type": "access",
    }
    assert dict(store.attributes) == {
        "async_jwt.app": "tests",
        "async_jwt.outcome": "ok",
        "async_jwt.call": "check",
    }
    assert dict(hook.attributes) == {
        "async_jwt.app": "tests",
        "async_jwt.outcome": "ok",
        "async_jwt.hook": "user_lookup",
    }
    assert {store.parent.span_id, hook.parent.span_id} == {check.context.span_id}
    assert (check.kind, store.kind, hook.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL)
    found = telemetry.metrics()
    assert found["async_jwt.check.duration"] == {
        labels(outcome="accepted", location="headers", type="access"): 1
    }
    assert found["async_jwt.hook.duration"] == {labels(outcome="ok", hook="user_lookup"): 1}
    assert found["async_jwt.store.duration"][labels(outcome="ok", call="check")] == 1
    assert found["async_jwt.store.available"] == {labels(): 1}


@on_a_servers_loop
async def test_what_a_view_demands_and_of_which_realm(harness, telemetry):
    h = telemetry.observe(harness({"JWT_REALMS": {"staff": {"JWT_SECRET_KEY": SECRET[::-1]}}}))

    async def view():
        return {}

    demands = {"scopes": "x", "roles": "y", "allow": lambda found: True, "realm": "staff"}
    h.view("/staff", h.api.jwt_required(**demands)(view))
    for given, outcome in (
        ({}, "insufficient_scope"),
        ({"scopes": "x"}, "permission_denied"),
        ({"scopes": "x", "roles": "y"}, "accepted"),
    ):
        token = await h.jwt.create_access_token("alice", realm="staff", **given)
        telemetry.clear()
        assert (await h.call("/staff", token=token)).status == (200 if outcome == "accepted" else 403)
        told = telemetry.spans["async_jwt.check"].attributes
        assert (told["async_jwt.outcome"], told["async_jwt.realm"]) == (outcome, "staff")
    assert telemetry.spans["async_jwt.hook allow"].attributes["async_jwt.outcome"] == "ok"


@however_it_runs
async def test_a_check_of_a_text(harness, telemetry):
    h = telemetry.observe(harness())
    async with h.serving():
        token = await h.mint()
        await h.jwt.authenticate_token(token)
        with pytest.raises(WrongTokenError):
            await h.jwt.authenticate_token(token, type="reset")
    assert telemetry.metrics()["async_jwt.check.duration"] == {
        labels(outcome="accepted", location="text", type="access"): 1,
        labels(outcome="token_type_wrong"): 1,
    }


@on_each_loop
async def test_the_span_of_the_request_is_above_it(harness, telemetry):
    h = telemetry.observe(harness())
    tracer = telemetry.tracers.get_tracer("tests")

    async def view():
        with tracer.start_as_current_span("the view"):
            await h.api.verify_jwt_in_request()
        return {}

    h.view("/view", h.colour(view))
    await h.call("/view", token=await h.mint())
    assert telemetry.spans["async_jwt.check"].parent.span_id == telemetry.spans["the view"].context.span_id


@pytest.mark.parametrize(
    ("path", "given", "outcome", "is_error"),
    [
        ("/me", None, "authorization_required", False),
        ("/optional", None, "anonymous", False),
        ("/me", "nonsense", "token_invalid", False),
        ("/fresh", "access", "fresh_token_required", False),
        ("/me", "refresh", "token_type_wrong", False),
        ("/reset", "reset", "accepted", False),
    ],
)
@on_each_loop
async def test_outcomes(harness, telemetry, path, given, outcome, is_error):
    h = telemetry.observe(harness())
    made = {
        "access": h.mint,
        "refresh": h.mint_refresh,
        "reset": lambda: h.jwt.create_token("alice", type="reset"),
    }
    token = await made[given]() if given in made else given
    await h.call(path, token=token)
    span = telemetry.spans["async_jwt.check"]
    assert span.attributes["async_jwt.outcome"] == outcome
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert span.events == ()
    ((given_labels, count),) = telemetry.metrics()["async_jwt.check.duration"].items()
    assert (dict(given_labels)["outcome"], count) == (outcome, 1)
    if given == "reset":
        assert dict(given_labels)["type"] == "purpose"  # an application may have any number of them


@on_each_loop
async def test_what_is_the_applications_own_fault(harness, telemetry):
    h = telemetry.observe(harness())
    h.app.config["PROPAGATE_EXCEPTIONS"] = False

    @h.jwt.user_lookup_loader
    async def user_of(header, claims):
        raise LookupError("a text that may hold anything")

    assert (await h.call("/me", token=await h.mint())).status == 500
    for name in ("async_jwt.check", "async_jwt.hook user_lookup"):
        span = telemetry.spans[name]
        assert (span.attributes["async_jwt.outcome"], span.status.status_code) == ("error", StatusCode.ERROR)
        assert "anything" not in span.to_json()


@on_each_loop
async def test_hooks_that_return_the_wrong_thing(harness, telemetry):
    h = telemetry.observe(harness())
    h.jwt.token_verification_loader(lambda header, claims: None)
    await h.call("/me", token=await h.mint())
    span = telemetry.spans["async_jwt.hook token_verification"]
    assert (span.attributes["async_jwt.outcome"], span.status.description) == ("hook_error", "hook_error")


@on_each_loop
async def test_an_outage(harness, telemetry):
    h = telemetry.observe(harness({"JWT_STORE_URI": "redis://127.0.0.1:1"}))
    token = pyjwt.encode({"sub": "alice", "type": "access", "jti": "1"}, SECRET)
    assert (await h.call("/me", token=token)).status == 503
    for name in ("async_jwt.check", "async_jwt.store check"):
        span = telemetry.spans[name]
        assert (span.attributes["async_jwt.outcome"], span.status.status_code) == (
            "store_unavailable",
            StatusCode.ERROR,
        )
    found = telemetry.metrics()
    assert found["async_jwt.store.available"] == {labels(): 0}
    assert found["async_jwt.store.refused"][labels()] >= 1


@on_each_loop
async def test_tokens_that_are_made_used_again_and_revoked(harness, telemetry):
    h = telemetry.observe(harness({"JWT_REFRESH_GRACE": 0}))

    async def rotate():
        pair = await h.api.rotate_refresh_token()
        return {"refresh": pair.refresh_token}

    h.view("/rotate", h.api.jwt_required(refresh=True)(h.colour(rotate)))
    pair = await h.jwt.create_token_pair("alice")
    await h.jwt.create_token("alice", type="reset")
    await h.call("/rotate", token=pair.refresh_token)
    await h.call("/rotate", token=pair.refresh_token)
    await h.jwt.revoke_user("alice")
    found = telemetry.metrics()
    assert found["async_jwt.tokens.issued"] == {
        labels(type="access"): 2,
        labels(type="refresh"): 2,
        labels(type="purpose"): 1,
    }
    assert found["async_jwt.tokens.reused"] == {labels(kind="predecessor"): 1}
    assert found["async_jwt.revocations"] == {labels(scope="session"): 1, labels(scope="user"): 1}


@on_each_loop
async def test_tokens_that_come_late_in_a_row(harness, telemetry, clock):
    h = telemetry.observe(harness(store=MemoryStore(clock=clock), clock=clock))

    async def rotate():
        return {"refresh": (await h.api.rotate_refresh_token()).refresh_token}

    h.view("/rotate", h.api.jwt_required(refresh=True)(h.colour(rotate)))
    token = (await h.jwt.create_token_pair("alice")).refresh_token
    for _ in range(3):
        following = (await h.call("/rotate", token=token)).json["refresh"]
        clock.now += 5
        await h.call("/rotate", token=token)
        token = following
    assert telemetry.metrics()["async_jwt.tokens.repeated"] == {labels(): 2}


@on_each_loop
async def test_a_store_in_memory_is_not_timed(harness, telemetry):
    """It takes a microsecond, and views without an event loop go on without one."""
    h = telemetry.observe(harness())
    await h.call("/me", token=await h.mint())
    assert not [name for name in telemetry.spans if "store" in name]
    found = telemetry.metrics()
    assert "async_jwt.store.duration" not in found
    assert found["async_jwt.store.available"] == {labels(): 1}


@on_a_servers_loop
async def test_a_store_is_all_that_it_was(harness, telemetry, redis_url):
    h = telemetry.observe(harness({"JWT_STORE_URI": f"{redis_url}?prefix=otel2:&deadline=5"}))
    assert type(h.jwt.store).__name__ == "RedisStore"
    assert h.jwt.store.status().available
    async with h.serving():
        pair = await h.jwt.create_token_pair("alice", device="Phone")
        page = await h.jwt.list_sessions("alice")
        assert [session.sid for session in page.sessions] == [pair.sid]
        assert await h.jwt.revoke_session(pair.sid)
        assert (await h.call("/me", token=pair.access_token)).code == "token_revoked"
    calls = {dict(given)["call"] for given in telemetry.metrics()["async_jwt.store.duration"]}
    assert calls == {
        "check",
        "get_session",
        "list_sessions",
        "load_session",
        "refusal_of",
        "replace_session",
        "revoke_session",
    }


@on_a_servers_loop
async def test_a_store_of_ones_own_without_a_status(harness, telemetry):
    class Plain:
        async def stamp(self, identity):
            return "stamp"

        async def check(self, ref):
            return True

        async def close(self):
            pass

        start = close
        own = "attribute"

    h = telemetry.observe(harness(store=Plain()))
    assert (await h.call("/me", token=await h.mint())).status == 200
    assert "async_jwt.store.available" not in telemetry.metrics()
    assert h.jwt._current()[0].engine().store.own == "attribute"


@on_a_servers_loop
async def test_a_request_that_is_cancelled(harness, telemetry):
    h = telemetry.observe(harness())

    @h.jwt.user_lookup_loader
    async def user_of(header, claims):
        await asyncio.sleep(60)

    headers = {"Authorization": f"Bearer {await h.mint()}"}
    async with h.app.test_request_context("/me", headers=headers):
        task = asyncio.create_task(h.api.verify_jwt_in_request())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    span = telemetry.spans["async_jwt.hook user_lookup"]
    assert (span.attributes["async_jwt.outcome"], span.status.status_code) == ("cancelled", StatusCode.UNSET)


@on_each_loop
async def test_nobody_measures_twice_or_for_ever(harness, telemetry):
    h = telemetry.observe(harness())
    with pytest.raises(RuntimeError, match="The application 'tests' is already instrumented"):
        telemetry.observe(h)
    uninstrument(h.app)
    uninstrument(h.app)
    await h.call("/me", token=await h.mint())
    assert telemetry.spans == {}
    assert telemetry.metrics() == {}
    telemetry.observe(h)
    await h.call("/me", token=await h.mint())
    assert "async_jwt.check" in telemetry.spans


@on_each_loop
async def test_an_application_without_a_manager(harness):
    app = harness.make_app(None)
    for function in (instrument, uninstrument):
        with pytest.raises(RuntimeError, match="The application 'tests' has no JWTManager"):
            function(app)


@on_each_loop
async def test_settings_that_change_and_outages_that_are_tested_are_measured_too(harness, telemetry):
    h = telemetry.observe(harness())
    token = await h.mint()
    h.app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 60
    with outage(h.app):
        await h.call("/me", token=token)
        assert telemetry.spans["async_jwt.check"].attributes["async_jwt.outcome"] == "store_unavailable"
    await h.call("/me", token=token)
    assert telemetry.spans["async_jwt.check"].attributes["async_jwt.outcome"] == "accepted"


@NEEDS_QUART
async def test_without_a_provider_it_costs_a_little_and_says_nothing(caplog):
    h = QuartHarness()
    instrument(h.app)
    with caplog.at_level(logging.DEBUG):
        assert (await h.call("/me", token=await h.mint())).status == 200
    assert caplog.messages == []
