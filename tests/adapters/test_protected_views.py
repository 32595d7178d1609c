"""Protected views: who gets in, and what a view then knows."""

from __future__ import annotations

import datetime as dt
import functools
import importlib
import inspect
from typing import ClassVar

import pytest

from async_jwt.adapters import flask_sync
from async_jwt.errors import ConfigurationError, JWTExtendedException, NoAuthorizationError
from tests.harness.applications import FlaskAsyncHarness, FlaskSyncHarness

pytestmark = pytest.mark.asyncio


async def test_view_runs_for_a_valid_token(harness):
    h = harness()
    answer = await h.call(token=await h.mint())
    assert answer.status == 200
    assert answer.json["identity"] == "alice"
    assert answer.json["location"] == "headers"
    assert answer.json["header"] == {"typ": "JWT", "alg": "HS256"}


async def test_request_without_token_is_challenged(harness):
    answer = await harness().call()
    assert answer.status == 401
    assert answer.json == {"msg": "Missing Authorization Header", "code": "authorization_required"}
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_refused_token_names_the_error_in_the_challenge(harness):
    answer = await harness().call(token="a.b.c")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The token is not valid"'
    )
    assert answer.json == {"msg": "The token is not valid", "code": "token_invalid"}


async def test_decorator_without_parentheses(harness):
    h = harness()

    @h.api.jwt_required
    async def view():
        return {"who": h.api.get_jwt_identity()}

    h.view("/bare", view)
    assert (await h.call("/bare")).status == 401
    assert (await h.call("/bare", token=await h.mint())).json == {"who": "alice"}


async def test_plain_view_runs_off_the_loop_with_the_context(harness):
    h = harness()

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        return {"name": claims["sub"]}

    @h.api.jwt_required()
    def view():
        import time

        time.sleep(0.01)  # blockbuster would fail the test on the event loop
        return {"name": h.api.current_user["name"]}

    h.view("/plain", view)
    assert (await h.call("/plain")).status == 401
    assert (await h.call("/plain", token=await h.mint())).json == {"name": "alice"}


async def test_callable_object_that_returns_a_coroutine(harness):
    h = harness()

    class View:
        async def __call__(self):
            return {"ok": True}

    view = functools.update_wrapper(functools.partial(View()), View.__call__)
    h.view("/object", h.api.jwt_required()(view))
    assert (await h.call("/object")).status == 401
    assert (await h.call("/object", token=await h.mint())).json == {"ok": True}


async def test_streaming_view(harness):
    h = harness()

    @h.api.jwt_required()
    async def view():
        yield b"one"
        yield b"two"

    h.view("/stream", view)
    assert (await h.call("/stream")).status == 401
    assert (await h.call("/stream", token=await h.mint())).body == b"onetwo"


async def test_class_based_views(harness):
    h = harness()
    method_view = importlib.import_module(f"{h.framework.__name__}.views").MethodView
    api = h.api

    class All(method_view):
        decorators: ClassVar = [api.jwt_required()]

        async def get(self):
            return {"who": api.get_jwt_identity()}

    class One(method_view):
        @api.jwt_required(fresh=True)
        async def post(self):
            return {"who": api.get_jwt_identity()}

        async def get(self):
            return {"open": True}

    h.view("/all", All.as_view("all"))
    h.view("/one", One.as_view("one"))
    token = await h.mint()
    assert (await h.call("/all")).status == 401
    assert (await h.call("/all", token=token)).json == {"who": "alice"}
    assert (await h.call("/one")).json == {"open": True}
    assert (await h.call("/one", method="POST", token=token)).code == "fresh_token_required"
    fresh = await h.mint(fresh=True)
    assert (await h.call("/one", method="POST", token=fresh)).json == {"who": "alice"}


async def test_before_request_of_a_blueprint(harness):
    h = harness()
    area = h.framework.Blueprint("area", "area")

    @area.before_request
    @h.api.jwt_required()
    async def guard():
        return None

    @area.get("/inside")
    async def inside():
        return {"who": h.api.get_jwt_identity()}

    h.app.register_blueprint(area)
    assert (await h.call("/inside")).status == 401
    assert (await h.call("/inside", token=await h.mint())).json == {"who": "alice"}
    assert (await h.call("/open")).status == 200


async def test_two_checks_share_what_is_known_and_each_policy_is_checked_in_full(harness):
    h = harness()
    asked = []

    @h.jwt.token_in_blocklist_loader
    async def blocked(header, claims):
        asked.append("blocklist")
        return False

    @h.jwt.token_verification_loader
    async def verify(header, claims):
        asked.append("verify")
        return True

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        asked.append("user")
        return claims["sub"]

    @h.api.jwt_required(fresh=True)
    async def view():
        return {}

    async def first():
        await h.api.verify_jwt_in_request(optional=True)

    h.app.before_request(first)
    h.view("/twice", view)
    assert (await h.call("/twice", token=await h.mint(fresh=True))).status == 200
    # What an application verifies may depend on more than the token: it is asked at each check.
    assert asked == ["blocklist", "verify", "user", "verify"]
    assert (await h.call("/twice", token=await h.mint())).code == "fresh_token_required"


async def test_after_a_swallowed_failure_nobody_is_authenticated(harness):
    h = harness()

    async def view():
        await h.api.verify_jwt_in_request()
        with pytest.raises(JWTExtendedException) as caught:
            await h.api.verify_jwt_in_request(fresh=True)
        assert caught.value.error_code == "fresh_token_required"
        with pytest.raises(RuntimeError, match="No token check has passed"):
            h.api.get_jwt_identity()
        await h.api.verify_jwt_in_request()
        return {"who": h.api.get_jwt_identity()}

    h.view("/swallow", view)
    assert (await h.call("/swallow", token=await h.mint())).json == {"who": "alice"}


async def test_failure_alone_leaves_no_identity(harness):
    h = harness()

    async def view():
        with pytest.raises(NoAuthorizationError):
            await h.api.verify_jwt_in_request()
        with pytest.raises(RuntimeError, match="jwt_required"):
            h.api.get_jwt()
        return {"location": h.api.get_jwt_request_location()}

    h.view("/failed", view)
    assert (await h.call("/failed")).json == {"location": None}


async def test_verify_returns_header_and_claims(harness):
    h = harness()

    async def view():
        header, claims = await h.api.verify_jwt_in_request()
        return {"alg": header["alg"], "sub": claims["sub"]}

    h.view("/verify", view)
    assert (await h.call("/verify", token=await h.mint())).json == {"alg": "HS256", "sub": "alice"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic abc"}])
async def test_optional_lets_anonymous_requests_through(harness, headers):
    answer = await harness().call("/optional", headers=headers)
    assert answer.json == {"identity": None, "claims": {}, "header": {}, "location": None, "user": None}


async def test_optional_still_refuses_a_bad_token(harness):
    h = harness()
    assert (await h.call("/optional", token="nonsense")).status == 401
    assert (await h.call("/optional", token=await h.mint_refresh())).status == 401
    assert (await h.call("/optional", headers={"Authorization": "Bearer"})).code == "header_invalid"


async def test_open_view_knows_nobody(harness):
    h = harness()
    assert (await h.call("/open", token=await h.mint())).json == {"user": False, "location": None}


async def test_accessors_outside_a_request(harness):
    h = harness()
    async with h.context():
        with pytest.raises(RuntimeError, match="No request is being served"):
            h.api.get_jwt_identity()
        assert h.api.get_jwt_request_location() is None
        with pytest.raises(RuntimeError, match="no request"):
            await h.api.verify_jwt_in_request()


async def test_current_user_needs_a_lookup(harness):
    h = harness()

    @h.api.jwt_required(optional=True)
    async def view():
        if h.api.current_auth() is None:
            assert h.api.get_current_user() is None
            return {"anonymous": True}
        with pytest.raises(RuntimeError, match="user_lookup_loader"):
            h.api.get_current_user()
        return {"anonymous": False}

    h.view("/user", view)
    assert (await h.call("/user")).json == {"anonymous": True}
    assert (await h.call("/user", token=await h.mint())).json == {"anonymous": False}


async def test_options_is_exempt_and_anonymous(harness):
    h = harness()
    answer = await h.call(method="OPTIONS")
    assert answer.status == 200
    assert answer.json["claims"] == {}


async def test_head_is_protected_as_get_is(harness):
    h = harness()

    @h.api.jwt_required()
    async def view():
        return {}

    h.view("/get", view, methods=["GET"])
    assert (await h.call("/get", method="HEAD")).status == 401
    assert (await h.call("/get", method="HEAD", token=await h.mint())).status == 200


@pytest.mark.parametrize(
    ("decorated", "text"),
    [(type("View", (), {}), "decorators"), (42, "functions")],
)
async def test_what_cannot_be_protected_is_refused_when_decorated(harness, decorated, text):
    with pytest.raises(ConfigurationError, match=text):
        harness.api.jwt_required()(decorated)


async def test_a_class_without_parentheses_is_refused(harness):
    with pytest.raises(ConfigurationError, match="decorators"):
        harness.api.jwt_required(type("View", (), {}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"optional": "yes"},
        {"fresh": 1},
        {"locations": "headers,cookies"},
        {"locations": ["basement"]},
        {"type": ""},
        {"type": []},
        {"type": "reset", "refresh": True},
        {"type": "reset", "verify_type": False},
    ],
)
async def test_wrong_demands_are_refused_when_decorated(harness, arguments):
    with pytest.raises(ConfigurationError):
        harness.api.jwt_required(**arguments)


async def test_fresh_until_a_time(harness, clock):
    h = harness(clock=clock)
    token = await h.mint(fresh=dt.timedelta(minutes=5))
    assert (await h.call("/fresh", token=token)).status == 200
    clock.now += 301
    answer = await h.call("/fresh", token=token)
    assert answer.code == "fresh_token_required"
    assert 'error="insufficient_user_authentication"' in answer.headers["WWW-Authenticate"]


async def test_types_are_kept_apart(harness):
    h = harness()
    access, refresh = await h.mint(), await h.mint_refresh()
    reset = await h.jwt.create_token("alice", type="reset")
    accepted = {
        "/me": [access],
        "/refresh": [refresh],
        "/either": [access, refresh],
        "/reset": [reset],
    }
    for path, tokens in accepted.items():
        for token in (access, refresh, reset):
            answer = await h.call(path, token=token)
            assert (answer.status == 200) is (token in tokens), path
            if answer.status != 200:
                assert answer.code == "token_type_wrong"


async def test_several_purposes_and_refresh_by_type(harness):
    h = harness()

    @h.api.jwt_required(type={"reset", "confirm"})
    async def view():
        return {}

    @h.api.jwt_required(type="refresh")
    async def refresh():
        return {}

    h.view("/purposes", view)
    h.view("/by-type", refresh)
    for purpose in ("reset", "confirm"):
        token = await h.jwt.create_token("alice", type=purpose)
        assert (await h.call("/purposes", token=token)).status == 200
    assert (await h.call("/by-type", token=await h.mint_refresh())).status == 200
    assert (await h.call("/by-type", token=await h.mint())).status == 401


async def test_one_manager_serves_many_apps_each_with_its_keys(harness):
    first, second = harness(), harness({"JWT_SECRET_KEY": "z" * 64})
    shared = harness.api.JWTManager()
    for h in (first, second):
        del h.app.extensions["async_jwt"]  # its own manager's
        shared.init_app(h.app)
        h.jwt = shared
    async with first.context():
        token = await first.api.create_access_token("alice")
    assert (await first.call(token=token)).status == 200
    assert (await second.call(token=token)).status == 401
    with pytest.raises(RuntimeError, match="several applications"):
        await shared.create_access_token("alice")
    stranger = harness()
    async with stranger.context():
        with pytest.raises(RuntimeError, match="does not serve"):
            await shared.create_access_token("alice")


async def test_applications_are_not_kept_alive(harness):
    import gc
    import weakref

    shared = harness.api.JWTManager()
    gone = weakref.ref(harness().app)
    h = harness()
    for app in (gone(), h.app):
        if app is not None:
            del app.extensions["async_jwt"]
            shared.init_app(app)
    app = None
    gc.collect()
    assert gone() is None
    assert await shared.create_access_token("alice")


async def test_what_a_view_does_to_its_claims_does_not_change_what_it_revokes(harness):
    h = harness()

    @h.api.jwt_required()
    async def view():
        h.api.get_jwt().clear()
        await h.api.revoke_token()
        return {}

    h.view("/clear", view)
    token = await h.mint()
    assert (await h.call("/clear", token=token)).status == 200
    assert (await h.call(token=token)).code == "token_revoked"


async def test_what_a_view_does_to_its_claims_changes_no_check(harness):
    h = harness()

    async def view():
        await h.api.verify_jwt_in_request()
        h.api.get_jwt()["fresh"] = True
        await h.api.verify_jwt_in_request(fresh=True)
        return {}

    h.view("/claims", view)
    assert (await h.call("/claims", token=await h.mint())).code == "fresh_token_required"


async def test_manager_without_an_app_says_what_to_do(harness):
    with pytest.raises(RuntimeError, match="init_app"):
        await harness.api.JWTManager().create_access_token("alice")
    with pytest.raises(RuntimeError, match="app context"):
        await harness.api.create_access_token("alice")


async def test_app_without_a_manager_says_what_to_do(harness):
    h = harness()
    del h.app.extensions["async_jwt"]
    async with h.context():
        with pytest.raises(RuntimeError, match="no JWTManager"):
            h.api.get_jwt_request_location()


async def test_a_protected_view_without_a_manager_runs_never_and_says_what_to_do(harness, caplog):
    h = harness()
    token = await h.mint()
    del h.app.extensions["async_jwt"]
    assert (await h.call(token=token)).status == 500
    assert "This application has no JWTManager: call JWTManager(app) or init_app(app)" in caplog.text


async def test_an_operation_taken_from_the_class_takes_its_manager_first():
    awaited = FlaskAsyncHarness().jwt
    assert await type(awaited).create_access_token(awaited, "alice")
    app = FlaskSyncHarness().app
    app.extensions.clear()
    blocking = flask_sync.JWTManager(app)
    assert flask_sync.JWTManager.create_access_token(blocking, "alice")


async def test_templates_get_the_current_user(harness):
    h = harness()
    render_template_string = h.framework.render_template_string
    h.jwt.init_app(h.app, add_context_processor=True)

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        return {"name": claims["sub"]}

    async def page():
        page = render_template_string("{{ current_user.name if current_user else 'nobody' }}")
        return await page if inspect.isawaitable(page) else page

    h.view("/page", h.api.jwt_required(optional=True)(page))
    h.view("/open-page", h.api.public(page))
    assert (await h.call("/page", token=await h.mint())).body == b"alice"
    assert (await h.call("/page")).body == b"nobody"
    assert (await h.call("/open-page")).body == b"nobody"


async def test_identity_does_not_leak_through_an_outer_app_context(harness):
    h = harness()
    async with h.context():
        assert (await h.call(token=await h.mint())).status == 200
        assert (await h.call("/optional")).json["identity"] is None
        assert (await h.call()).status == 401


async def test_repr_of_an_authentication_shows_no_token(harness):
    h = harness()

    @h.api.jwt_required()
    async def view():
        return {"repr": repr(h.api.current_auth())}

    h.view("/repr", view)
    token = await h.mint()
    shown = (await h.call("/repr", token=token)).json["repr"]
    assert "alice" in shown
    assert token not in shown


async def test_the_current_user_to_type_checkers(harness):
    h = harness()
    h.jwt.user_lookup_loader(lambda _header, claims: {"name": claims["sub"]})

    async def view():
        return {"name": h.api.current_user_as(dict)["name"]}

    h.view("/as", h.api.jwt_required(optional=True)(view))
    assert (await h.call("/as", token=await h.mint())).json == {"name": "alice"}
    assert (await h.call("/as")).status == 500
