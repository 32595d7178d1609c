"""Views that look protected and would answer without a check: nothing of that is sent."""

from __future__ import annotations

import functools
import importlib
import inspect
import types

import pytest
from werkzeug import Response

from async_jwt.adapters import _route_demands
from async_jwt.errors import ConfigurationError

pytestmark = pytest.mark.asyncio

DENY = {"JWT_DEFAULT_DENY": True}
PRESET = {"JWT_COMPAT": "flask-jwt-extended"}


def new(h, answer="secret"):
    async def view(**_):
        return answer

    return h.colour(view)


def above(view, answer):
    """A decorator that answers in a view's stead, as a cache does."""

    @functools.wraps(view)
    def instead(*args, **kwargs):
        return answer()

    @functools.wraps(view)
    async def awaited(*args, **kwargs):
        return answer()

    return awaited if inspect.iscoroutinefunction(view) else instead


async def refused(h, path, caplog, name, **options):
    """It is a 500 whose reason is in the log alone."""
    caplog.clear()
    answer = await h.call(path, **options)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert f"The view {name!r} answered, but its jwt_required never ran" in caplog.text


# -- a guard above the route -------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, DENY, PRESET])
async def test_a_guard_above_the_route_refuses_the_application(harness, config, caplog):
    h = harness(config)
    view = new(h)
    h.app.add_url_rule("/wrong", "wrong", view)
    h.api.jwt_required()(view)
    for path in ("/wrong", "/me", "/wrong"):
        caplog.clear()
        assert (await h.call(path, token=await h.mint())).status == 500
        assert "registered without it: wrong. Put @jwt_required() below the route" in caplog.text


async def test_quart_refuses_it_at_the_start(harness):
    h = harness()
    if h.framework.__name__ != "quart":
        pytest.skip("Flask does not say when it starts")
    view = new(h)
    h.api.jwt_required(h.app.get("/wrong")(view))
    with pytest.raises(ConfigurationError, match="registered without it: view"):
        await h.app.startup()


@pytest.mark.parametrize("first", ["public", "guard"])
async def test_a_view_may_be_open_here_and_guarded_there(harness, first):
    h = harness(DENY)
    view = new(h, "either")
    if first == "public":
        h.api.public(view)
    guarded = h.api.jwt_required()(view)
    if first == "guard":
        h.api.public(view)
    h.app.add_url_rule("/here", "here", view)
    h.app.add_url_rule("/there", "there", guarded)
    assert (await h.call("/here")).status == 200
    assert (await h.call("/there")).status == 401
    assert (await h.call("/there", token=await h.mint())).status == 200


@pytest.mark.parametrize("wrap", ["partial", "method"])
async def test_a_guard_above_the_route_is_seen_through_what_calls_the_view(harness, wrap, caplog):
    h = harness()
    if wrap == "partial":
        view = new(h)
        registered = functools.partial(view)
    else:
        kind = type("Shop", (), {"view": new(h)})
        view, registered = kind.view, kind().view
    h.api.jwt_required()(view)
    h.app.add_url_rule("/wrong", "wrong", registered)
    assert (await h.call("/wrong")).status == 500
    assert "registered without it: wrong" in caplog.text


# -- an answer past the guard ------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 201, 204, 304])
async def test_what_answers_above_the_guard_is_not_sent(harness, caplog, status, method):
    h = harness()
    cached = above(h.api.jwt_required()(new(h)), lambda: ("secret", status, {"X-Secret": "1"}))
    h.app.add_url_rule("/cached", "cached", cached)
    await refused(h, "/cached", caplog, "cached", method=method)
    assert "X-Secret" not in (await h.call("/cached", method=method)).headers


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 403, 429, 503])
async def test_refusals_and_redirections_above_the_guard_are_sent(harness, status):
    """As of a limiter, a validator, or a rule that sends elsewhere."""
    h = harness()
    h.app.add_url_rule("/limited", "limited", above(h.api.jwt_required()(new(h)), lambda: ("no", status)))
    assert (await h.call("/limited")).status == status


async def test_a_check_in_between_is_enough(harness):
    """By a decorator further out, by hand, or before the view."""
    h = harness()
    inner = above(h.api.jwt_required()(new(h)), lambda: "cached")
    h.app.add_url_rule("/twice", "twice", h.api.jwt_required()(inner))

    async def by_hand():
        await h.api.verify_jwt_in_request()
        return "by hand"

    guarded = h.api.jwt_required()(new(h))
    h.view("/hand", functools.update_wrapper(by_hand, guarded))
    area = h.framework.Blueprint("area", "area")
    area.before_request(h.api.jwt_required()(h.colour(_nothing)))
    area.add_url_rule("/before", "before", inner)
    h.app.register_blueprint(area)
    for path in ("/twice", "/hand", "/before"):
        assert (await h.call(path)).status == 401
        assert (await h.call(path, token=await h.mint())).status == 200


async def _nothing():
    return None


async def test_a_class_that_never_calls_its_guarded_method(harness, caplog):
    h = harness()
    views = importlib.import_module(f"{h.framework.__name__}.views")
    body = {"get": h.api.jwt_required()(lambda self: "get"), "dispatch_request": lambda self, **_: "secret"}
    kind = type("Careless", (views.MethodView,), body)
    h.app.add_url_rule("/careless", view_func=kind.as_view("careless"))
    await refused(h, "/careless", caplog, "careless")


async def test_a_plain_class_calls_no_method_by_its_name(harness):
    h = harness(DENY)
    views = importlib.import_module(f"{h.framework.__name__}.views")
    body = {"get": h.api.jwt_required()(lambda self: "get"), "dispatch_request": lambda self, **_: "secret"}
    kind = type("Careless", (views.View,), body)
    h.app.add_url_rule("/careless", view_func=kind.as_view("careless"))
    assert (await h.call("/careless")).status == 401  # by default, for it says nothing


class Fluent:
    """A callable whose attributes are anything, as remote procedures and mocks have them."""

    __name__ = "fluent"

    def __getattr__(self, name):
        if name.startswith("__") and "async_jwt" not in name:
            raise AttributeError(name)
        if name in {"methods", "required_methods", "provide_automatic_options"}:
            raise AttributeError(name)
        return self

    def __call__(self, **_):
        return "secret"


async def test_an_object_that_answers_every_attribute_is_marked_by_nobody(harness):
    h = harness(DENY)
    h.app.add_url_rule("/fluent", "fluent", Fluent())
    assert (await h.call("/fluent")).status == 401


async def test_optional_views_are_named_once(harness, caplog):
    h = harness()
    h.app.add_url_rule("/perhaps", "perhaps", above(h.api.jwt_required(optional=True)(new(h)), lambda: "ok"))
    for _ in range(2):
        assert (await h.call("/perhaps")).status == 200
    assert caplog.text.count("The view 'perhaps' answered, but its jwt_required never ran") == 1


async def test_optional_views_that_ask_are_not_named(harness, caplog):
    h = harness()
    assert (await h.call("/optional")).status == 200
    assert "never ran" not in caplog.text


async def test_options_and_open_views_are_left_alone(harness):
    h = harness()
    cached = above(h.api.jwt_required()(new(h)), lambda: "preflight")
    h.app.add_url_rule(
        "/options", "options", cached, methods=["OPTIONS", "GET"], provide_automatic_options=False
    )
    h.app.add_url_rule("/free", "free", new(h, "free"))
    assert (await h.call("/options", method="OPTIONS")).status == 200
    assert (await h.call("/free")).status == 200


async def test_a_stream_that_is_not_sent_is_closed(harness, caplog):
    h = harness()
    ended = []

    def stream():
        try:
            yield "secret"
        finally:
            ended.append("plain")

    async def astream():
        try:
            yield "secret"
        finally:
            ended.append("async")

    is_quart = h.framework.__name__ == "quart"
    begun = astream() if is_quart else stream()
    if is_quart:
        await anext(begun)
    else:
        next(begun)
    guarded = h.api.jwt_required()(new(h))
    h.app.add_url_rule("/stream", "stream", above(guarded, lambda: h.app.response_class(begun)))
    await refused(h, "/stream", caplog, "stream")
    assert ended == ["async" if is_quart else "plain"]


async def test_methods_that_clients_make_up_fill_no_memory(harness, monkeypatch, caplog):
    monkeypatch.setattr(_route_demands, "_MOST_REMEMBERED", 0)
    h = harness({"JWT_DEFAULT_DENY": True})
    h.app.add_url_rule("/cached", "cached", above(h.api.jwt_required()(new(h)), lambda: "secret"))
    await refused(h, "/cached", caplog, "cached")
    app_state = h.app.extensions["async_jwt"]
    assert (app_state.demands, app_state.around) == ({}, {})


async def test_an_application_that_dispatches_itself_is_left_alone(harness):
    """Where no rule matched there is no view that could demand anything."""
    h = harness()
    app_state = h.app.extensions["async_jwt"]
    assert not _route_demands.is_unchecked(app_state, types.SimpleNamespace(url_rule=None, method="GET"))


async def test_a_response_of_werkzeugs_own_is_not_sent_either(harness, caplog):
    h = harness()
    closed = []

    def answer():
        response = Response("secret")
        response.call_on_close(lambda: closed.append(1))
        return response

    h.app.add_url_rule("/cached", "cached", above(h.api.jwt_required()(new(h)), answer))
    await refused(h, "/cached", caplog, "cached")
    assert closed == [1]
