"""Default deny: what says nothing is refused, what says something keeps it; and the audit names both."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import logging

import pytest

from async_jwt.adapters._route_audit import routes_of
from async_jwt.errors import ConfigurationError

pytestmark = pytest.mark.asyncio

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
DENY = {"JWT_DEFAULT_DENY": True}


def audit(h):
    return {(route.rule, method): route for route in routes(h) for method in route.methods or ("WS",)}


def routes(h):
    return routes_of(h.app.extensions["async_jwt"])


def new(h):
    """A view that says nothing."""

    async def view(**kwargs):
        return {"ran": True}

    return h.colour(view)


def kept(decorated):
    """A decorator of the application, as most are written."""
    return functools.wraps(decorated)(lost(decorated))


def lost(decorated):
    """A decorator that forgets what it decorates."""

    def wrapper(*args, **kwargs):
        return decorated(*args, **kwargs)

    async def waits(*args, **kwargs):
        return await decorated(*args, **kwargs)

    return waits if inspect.iscoroutinefunction(decorated) else wrapper


def views(h):
    return importlib.import_module(f"{h.framework.__name__}.views")


def method_view(h, *names, decorators=(), **methods):
    base = views(h).MethodView
    handlers = {name: h.colour(lambda self, **kwargs: {"ran": True}) for name in names}
    return type("Item", (base,), {**handlers, **methods, "decorators": list(decorators)}).as_view("item")


def as_class(h):
    async def dispatch_request(self, **kwargs):
        return {"ran": True}

    body = {"dispatch_request": h.colour(dispatch_request), "methods": METHODS}
    return type("Item", (views(h).View,), body).as_view("item")


# Every kind of view that says nothing itself.
KINDS = {
    "function": new,
    "plain": lambda h: lambda **kwargs: {"ran": True},
    "wrapped": lambda h: kept(new(h)),
    "wrapped and forgotten": lambda h: lost(new(h)),
    "partial": lambda h: functools.partial(new(h)),
    "class": as_class,
    "methods of a class": lambda h: method_view(h, *(method.lower() for method in METHODS)),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_says_nothing_is_refused_on_every_method(harness, kind):
    h = harness(DENY)
    h.view("/new", KINDS[kind](h), methods=METHODS)
    token, refresh = await h.mint(), await h.mint_refresh()
    for method in METHODS:
        assert (await h.call("/new", method=method)).status == 401
        assert (await h.call("/new", method=method, token=refresh)).status == 401
        assert (await h.call("/new", method=method, token=token)).status == 200
    answer = await h.call("/new", method="OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    for (rule, _), route in audit(h).items():
        if rule == "/new":
            assert (route.state, route.by) == ("protected", "application")


async def test_without_it_they_are_open_and_named(harness):
    h = harness()
    h.view("/new", KINDS["function"](h), methods=METHODS)
    assert (await h.call("/new")).status == 200
    assert audit(h)["/new", "POST"].state == "open"
    assert audit(h)["/new", "POST"].by == ""


async def test_what_says_something_keeps_it(harness):
    h = harness(DENY)
    public = h.api.public(new(h))

    async def anonymous():
        return {"who": h.api.get_jwt_identity()}

    h.view("/public", public)
    h.view("/optional", h.api.jwt_required(optional=True)(anonymous))
    h.view("/refresh", h.api.jwt_required(refresh=True)(anonymous))
    h.view("/reset", kept(h.api.jwt_required(type="reset")(anonymous)))
    h.view("/partial", functools.partial(h.api.jwt_required(refresh=True)(anonymous)))
    refresh = await h.mint_refresh()
    assert (await h.call("/public")).status == 200
    assert (await h.call("/public", token="nonsense")).status == 200
    assert (await h.call("/optional")).json == {"who": None}
    assert (await h.call("/optional", token=await h.mint())).json == {"who": "alice"}
    assert (await h.call("/optional", token=refresh)).status == 401
    for path in ("/refresh", "/partial"):
        assert (await h.call(path, token=refresh)).json == {"who": "alice"}
        assert (await h.call(path, token=await h.mint())).status == 401
    reset = await h.jwt.create_token("alice", type="reset")
    assert (await h.call("/reset", token=reset)).status == 200
    states = {rule: route.state for (rule, _), route in audit(h).items()}
    assert states["/public"] == "public"
    assert states["/optional"] == "optional"
    assert {states[path] for path in ("/refresh", "/reset", "/partial")} == {"protected"}
    assert audit(h)["/refresh", "GET"].policies[0].refresh


async def test_each_method_of_a_class_decides_for_itself(harness):
    h = harness(DENY)

    def handler(self):
        return {"ran": True}

    def another(self):
        return {"ran": True}

    def third(self):
        return {"ran": True}

    h.view(
        "/item",
        method_view(
            h,
            get=h.api.public(handler),
            post=h.api.jwt_required(refresh=True)(another),
            delete=third,
        ),
    )
    refresh = await h.mint_refresh()
    for method, status in {"GET": 200, "HEAD": 200, "POST": 401, "DELETE": 401}.items():
        assert (await h.call("/item", method=method)).status == status
    assert (await h.call("/item", method="POST", token=refresh)).status == 200
    assert (await h.call("/item", method="DELETE", token=refresh)).status == 401
    assert (await h.call("/item", method="DELETE", token=await h.mint())).status == 200
    found = {method: route.state for (rule, method), route in audit(h).items() if rule == "/item"}
    assert found == {"GET": "public", "POST": "protected", "DELETE": "protected"}
    assert audit(h)["/item", "POST"].by == "view"
    assert audit(h)["/item", "DELETE"].by == "application"


async def test_decorators_of_classes(harness):
    h = harness(DENY)
    decorators = [h.api.jwt_required(refresh=True)]
    h.view("/item", method_view(h, "get", "post", decorators=decorators))
    # As Flask-RESTful and Flask-RESTX name them.
    for path, given in (("/all", decorators), ("/some", {"get": decorators})):

        class Resource(views(h).MethodView):
            method_decorators = given

            def get(self):
                return {"ran": True}

            def post(self):
                return {"ran": True}

        h.view(path, Resource.as_view(path))
    assert (await h.call("/item", token=await h.mint_refresh())).status == 200
    states = {key: route.by for key, route in audit(h).items()}
    assert states["/all", "GET"] == states["/all", "POST"] == states["/some", "GET"] == "view"
    assert states["/some", "POST"] == "application"


async def test_a_public_class_opens_itself_alone(harness):
    h = harness(DENY)

    @h.api.public
    class Open(views(h).MethodView):
        def get(self):
            return {"ran": True}

    class Derived(Open):
        def post(self):
            return {"ran": True}

    h.view("/open", Open.as_view("open"))
    h.view("/derived", Derived.as_view("derived"))
    assert (await h.call("/open")).status == 200
    assert (await h.call("/derived")).status == 401
    assert (await h.call("/derived", method="POST")).status == 401


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # asgiref leaves them so
async def test_static_files_and_what_is_no_view(harness, tmp_path, nothing_blocks):
    h = harness(DENY)
    app = h.app = type(h.app)("x", static_folder=str(tmp_path), static_url_path="/static")
    app.config.update(JWT_SECRET_KEY="s" * 32, JWT_DEFAULT_DENY=True)
    h.jwt.init_app(app)
    blueprint = h.framework.Blueprint(
        "shop", "x", static_folder=str(tmp_path), static_url_path="/static", url_prefix="/shop"
    )
    app.register_blueprint(blueprint)
    h.view("/only/", new(h), methods=["POST"])
    nothing_blocks.deactivate()  # Quart looks for its files on the event loop
    (tmp_path / "style.css").write_text("body {}")
    for folder in ("/static", "/shop/static"):
        assert (await h.call(f"{folder}/style.css")).status == 200
        assert (await h.call(f"{folder}/none.css")).status == 404
    nothing_blocks.activate()
    assert (await h.call("/nowhere")).status == 404
    assert (await h.call("/only/")).status == 405
    assert audit(h)["/static/<path:filename>", "GET"].state == "static"
    assert audit(h)["/shop/static/<path:filename>", "GET"].state == "static"


async def test_a_view_of_that_name_is_no_static_file(harness):
    h = harness(DENY)
    h.view("/named", new(h))
    h.app.add_url_rule("/static/<path:filename>", "static", new(h))
    assert (await h.call("/static/secret")).status == 401
    h.app.static_folder = "somewhere"
    assert (await h.call("/static/secret")).status == 401


async def test_views_that_are_added_late(harness):
    h = harness(DENY)
    assert (await h.call("/open")).status == 401
    rule = h.app.url_rule_class("/late", endpoint="late", methods=["GET"])
    rule.provide_automatic_options = False
    h.app.url_map.add(rule)
    h.app.view_functions["late"] = new(h)
    assert (await h.call("/late")).status == 401
    assert (await h.call("/late", token=await h.mint())).status == 200


async def test_options_reach_no_undecided_view(harness):
    """A preflight carries no token, so whoever answers it must not be the view."""
    h = harness(DENY)

    def own():
        raise AssertionError("the view ran")

    h.view("/own", own, methods=["GET", "OPTIONS"], provide_automatic_options=False)
    answer = await h.call("/own", method="OPTIONS")
    assert answer.status == 200
    assert "GET" in answer.headers["Allow"]
    assert audit(h)["/own", "OPTIONS"].state == "protected"


async def test_blueprints_decide_for_their_views_the_inner_one_first(harness):
    h = harness()
    made = {}

    def blueprint(name, parent=None, change=lambda blueprint: blueprint):
        made[name] = change(h.framework.Blueprint(name, "x", url_prefix=f"/{name}"))
        made[name].add_url_rule("/view", "view", new(h))
        made[name].add_url_rule("/public", "public", h.api.public(new(h)))
        refresh = h.api.jwt_required(refresh=True)(lambda: {"ran": True})
        made[name].add_url_rule("/refresh", "refresh", refresh)
        return made[name]

    admin = blueprint("admin", change=h.api.protect)
    inner, opened = blueprint("inner"), blueprint("opened", change=h.api.public)
    again = blueprint("again", change=h.api.protect)
    opened.register_blueprint(again)
    admin.register_blueprint(inner)
    admin.register_blueprint(opened)
    h.app.register_blueprint(admin)
    h.app.register_blueprint(blueprint("shop"))
    token, refresh = await h.mint(), await h.mint_refresh()
    for path, status in {
        "/admin/view": 401,
        "/admin/inner/view": 401,
        "/admin/opened/view": 200,
        "/admin/opened/again/view": 401,
        "/shop/view": 200,
    }.items():
        assert (await h.call(path)).status == status
        assert (await h.call(path, token=token)).status == 200
        assert (await h.call(path.replace("view", "public"))).status == 200
        assert (await h.call(path.replace("view", "refresh"), token=refresh)).status == 200
        assert (await h.call(path.replace("view", "refresh"), token=token)).status == 401
        state, by = ("protected", "blueprint") if status == 401 else ("open", "")
        state = "public" if "opened/view" in path else state
        route = audit(h)[path, "GET"]
        assert (route.state, route.by) == (state, by)


async def test_a_protected_blueprint_needs_a_manager(harness):
    h = harness()
    h.app = h.make_app()
    blueprint = h.api.protect(h.api.protect(h.framework.Blueprint("admin", "x")))
    blueprint.add_url_rule("/admin", "view", new(h))
    h.app.register_blueprint(blueprint)
    h.app.add_url_rule("/shop", "shop", new(h))
    h.app.register_error_handler(RuntimeError, lambda error: (str(error), 500))
    assert (await h.call("/shop")).status == 200
    answer = await h.call("/admin")
    assert answer.status == 500
    assert b"'admin' is protected, but its application has no JWTManager" in answer.body
    late = h.make_app()
    late.config["JWT_SECRET_KEY"] = "s" * 32
    late.register_blueprint(blueprint)
    h.app = late
    h.jwt.init_app(late)
    assert (await h.call("/admin")).status == 401


async def test_a_blueprint_that_is_protected_too_late_is_named_and_the_audit_says_what_holds(harness):
    h = harness()
    blueprint = h.framework.Blueprint("admin", "x")
    blueprint.add_url_rule("/admin", "view", new(h))
    h.app.register_blueprint(blueprint)
    with pytest.raises(ConfigurationError, match="before it is registered"):
        h.api.protect(blueprint)
    assert (await h.call("/admin")).status == 200
    assert audit(h)["/admin", "GET"].state == "open"


async def test_functions_that_run_before_views_decide(harness):
    h = harness(DENY)
    refreshing, lenient = (h.framework.Blueprint(name, "x", url_prefix=f"/{name}") for name in ("r", "l"))
    guard = h.api.jwt_required(refresh=True)(lambda: None)
    refreshing.before_request(guard)
    lenient.before_request(h.api.jwt_required(optional=True)(lambda: None))
    for blueprint in (refreshing, lenient):
        blueprint.add_url_rule("/view", "view", new(h))
        blueprint.add_url_rule("/public", "public", h.api.public(new(h)))
        h.app.register_blueprint(blueprint)
    token, refresh = await h.mint(), await h.mint_refresh()
    assert (await h.call("/r/view", token=refresh)).status == 200
    assert (await h.call("/r/view", token=token)).status == 401
    assert (await h.call("/l/view")).status == 401
    assert (await h.call("/l/view", token=token)).status == 200
    found = {key[0]: (route.state, route.by) for key, route in audit(h).items()}
    assert found["/r/view"] == found["/r/public"] == ("protected", "before_request")
    assert found["/l/view"] == ("protected", "application")
    assert found["/l/public"] == ("public", "")


async def test_what_is_decided_in_a_function_before_the_view(harness):
    """It is not seen by an audit, and counts all the same."""
    h = harness(DENY)

    async def before():
        if h.framework.request.path == "/new":
            await h.api.verify_jwt_in_request(refresh=True)

    h.app.before_request(before)
    h.view("/new", new(h))
    assert (await h.call("/new", token=await h.mint_refresh())).status == 200
    assert (await h.call("/new", token=await h.mint())).status == 401


async def test_the_check_comes_after_functions_that_run_before_views(harness):
    """A loader may need what they prepared, and what they answer is theirs."""
    h, order = harness(DENY), []

    @h.app.before_request
    def prepare():
        order.append("prepared")
        return {"by": "hook"} if h.framework.request.path == "/closed" else None

    @h.jwt.user_lookup_loader
    def load(header, claims):
        order.append("loaded")
        return {"name": "Alice"}

    h.view("/new", new(h))
    h.view("/closed", new(h))
    assert (await h.call("/new", token=await h.mint())).status == 200
    assert order == ["prepared", "loaded"]
    assert (await h.call("/closed")).json == {"by": "hook"}


async def test_refusals_are_answered_as_everywhere(harness):
    h = harness(DENY)
    h.view("/new", new(h))

    @h.jwt.unauthorized_loader
    def answer(message):
        return {"sorry": message}, 418

    answered = await h.call("/new")
    assert (answered.status, answered.json) == (418, {"sorry": "Missing Authorization Header"})


async def test_the_setting_may_change_and_must_be_right(harness):
    h = harness()
    h.view("/new", new(h))
    assert (await h.call("/new")).status == 200
    h.app.config["JWT_DEFAULT_DENY"] = True
    assert (await h.call("/new")).status == 401
    h.app.config["JWT_DEFAULT_DENY"] = "no"
    assert (await h.call("/new")).status == 500
    with pytest.raises(ConfigurationError, match="JWT_DEFAULT_DENY must be True or False"):
        harness({"JWT_DEFAULT_DENY": "yes"})


async def test_the_manager_that_came_last_is_asked(harness):
    h = harness({**DENY, "JWT_COMPAT": "flask-jwt-extended"})
    h.view("/new", new(h))
    second = harness({"JWT_SECRET_KEY": "another secret, which is long enough"})
    second.jwt.init_app(h.app)
    assert (await h.call("/new", token=await h.mint())).status == 200


async def test_contradictions_are_refused(harness):
    h = harness()

    class Shop(h.framework.Blueprint):
        pass

    names = map("shop{}".format, itertools.count())
    h.api.jwt_required()(lambda: None)
    cases = {
        "cannot be public: it already demands a token": lambda: h.api.public(
            h.api.jwt_required()(lambda: None)
        ),
        "a Shop cannot be public": lambda: h.api.public(h.api.protect(Shop(next(names), "x"))),
        "a Shop cannot be protected": lambda: h.api.protect(h.api.public(Shop(next(names), "x"))),
        "public() cannot mark str.upper": lambda: h.api.public("text".upper),
        "not an application": lambda: h.api.public(h.app),
        "JWT_DEFAULT_DENY = True for an application": lambda: h.api.protect(h.app),
        "for blueprints, not test_": lambda: h.api.protect(lambda: None),
    }
    for text, act in cases.items():
        with pytest.raises(ConfigurationError) as caught:
            act()
        assert text in str(caught.value)


async def test_a_developer_is_told_of_open_views(harness, caplog):
    h = harness({"DEBUG": True})
    h.view("/new", new(h), methods=["GET", "PUT"])
    h.view("/intended", h.api.public(new(h)))
    with caplog.at_level(logging.WARNING, "async_jwt"):
        async with h.serving():
            await h.call("/new")
            await h.call("/new")
    (told,) = [record.getMessage() for record in caplog.records if "open to everyone" in record.getMessage()]
    assert "/new (GET PUT /new)" in told
    assert "intended" not in told
    caplog.clear()
    h = harness({"DEBUG": True, **DENY})
    h.view("/new", new(h))
    async with h.serving():
        await h.call("/new")
    assert not [record for record in caplog.records if "open to everyone" in record.getMessage()]


async def test_the_audit_shows_what_is_demanded(harness):
    h = harness()
    h.app.add_url_rule("/nothing", "nothing")
    twice = h.api.jwt_required()(h.api.jwt_required(fresh=True)(lambda: None))
    h.view("/twice", twice)
    found = audit(h)
    assert not any(rule == "/nothing" for rule, _ in found)
    assert [policy.fresh for policy in found["/twice", "GET"].policies] == [True, False]
