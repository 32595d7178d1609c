"""Error handlers of applications and their extensions, beside the real Flask-JWT-Extended."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from decimal import Decimal
from types import ModuleType
from typing import Any

import flask
import flask_jwt_extended
import jwt as pyjwt
import pytest
from flask.views import MethodView
from flask_jwt_extended import exceptions as their_errors

from async_jwt import errors as our_errors
from async_jwt.adapters import flask_sync
from tests.harness import SECRET

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

BOTH: list[tuple[Any, ModuleType]] = [(flask_jwt_extended, their_errors), (flask_sync, our_errors)]
NAMES = [
    "CSRFError",
    "FreshTokenRequired",
    "InvalidHeaderError",
    "InvalidQueryParamError",
    "JWTDecodeError",
    "JWTExtendedException",
    "NoAuthorizationError",
    "RevokedTokenError",
    "UserClaimsVerificationError",
    "UserLookupError",
    "WrongTokenError",
]
PYJWTS = [
    pyjwt.DecodeError,
    pyjwt.ExpiredSignatureError,
    pyjwt.ImmatureSignatureError,
    pyjwt.InvalidAlgorithmError,
    pyjwt.InvalidAudienceError,
    pyjwt.InvalidIssuerError,
    pyjwt.InvalidSignatureError,
    pyjwt.InvalidTokenError,
    pyjwt.MissingRequiredClaimError,
    pyjwt.PyJWTError,
]
HANDLED = [*NAMES, *PYJWTS, Exception]
CONFIG = {
    "JWT_SECRET_KEY": SECRET,
    "JWT_DECODE_AUDIENCE": "here",
    "JWT_DECODE_ISSUER": "us",
    "JWT_ENCODE_ISSUER": "us",
    "JWT_ENCODE_AUDIENCE": "here",
    "JWT_TOKEN_LOCATION": ["headers", "cookies", "query_string"],
    "JWT_QUERY_STRING_VALUE_PREFIX": "T ",
}
OURS = {"JWT_COMPAT": "flask-jwt-extended"}
LOADERS = [
    "expired_token",
    "invalid_token",
    "needs_fresh_token",
    "revoked_token",
    "token_verification_failed",
    "unauthorized",
    "user_lookup_error",
]


def name(kind: Any) -> str:
    return kind if isinstance(kind, str) or kind is None else kind.__name__


def of(errors: ModuleType, kind: Any) -> type[Exception]:
    return getattr(errors, kind) if isinstance(kind, str) else kind


def application(api: Any, *, loaders: bool = False, **config: Any) -> flask.Flask:
    """An application whose hooks refuse some subjects."""
    app = flask.Flask("twin")
    app.config.update({**CONFIG, **(OURS if api is flask_sync else {}), **config})
    manager = api.JWTManager(app)
    manager.token_in_blocklist_loader(lambda _header, claims: claims["sub"] == "blocked")
    manager.user_lookup_loader(lambda _header, claims: None if claims["sub"] == "gone" else claims["sub"])
    manager.token_verification_loader(lambda _header, claims: claims["sub"] != "unverified")
    if loaders:
        for loader in LOADERS:
            answer = ({"loader": loader}, 418)
            getattr(manager, f"{loader}_loader")(lambda *_, answer=answer: answer)
    return app


def requests() -> dict[str, dict[str, Any]]:
    """Requests of each kind that is refused, and a good one."""
    now = 1_700_000_000
    good = {"sub": "a", "type": "access", "jti": "1", "iss": "us", "aud": "here", "fresh": False, "csrf": "c"}
    good |= {"iat": now, "nbf": now, "exp": 9**10}

    def token(key: str = SECRET, **claims: Any) -> str:
        held = {claim: value for claim, value in {**good, **claims}.items() if value is not None}
        return pyjwt.encode(held, key)

    def bearer(text: str) -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {text}"}}

    return {
        "none": {},
        "good": bearer(token()),
        "expired": bearer(token(exp=now)),
        "garbage": bearer("garbage"),
        "signature": bearer(token("x" * 64)),
        "early": bearer(token(nbf=9**10)),
        "audience": bearer(token(aud="there")),
        "issuer": bearer(token(iss="them")),
        "no issuer": bearer(token(iss=None)),
        "algorithm": bearer(pyjwt.encode(good, SECRET, "HS512")),
        "header": {"headers": {"Authorization": "Bearer"}},
        "query": {"query_string": {"jwt": token()}},
        "type": bearer(token(type="refresh")),
        "blocked": bearer(token(sub="blocked")),
        "gone": bearer(token(sub="gone")),
        "unverified": bearer(token(sub="unverified")),
        "not fresh": {**bearer(token()), "path": "/fresh"},
        "CSRF": {"method": "POST", "headers": {"Cookie": f"access_token_cookie={token()}"}},
    }


def answers(app: flask.Flask) -> dict[str, tuple[Any, ...]]:
    """What each of them is answered with."""
    found = {}
    client = app.test_client(use_cookies=False)
    for what, request in requests().items():
        response = client.open(**{"path": "/me", **request})
        found[what] = (response.status_code, response.get_json(silent=True), response.headers.get("X-By"))
    return found


def views(api: Any, target: Any) -> None:
    """Two views, as functions."""
    target.add_url_rule("/me", "me", api.jwt_required()(lambda: {"ok": 1}), methods=["GET", "POST"])
    target.add_url_rule("/fresh", "fresh", api.jwt_required(fresh=True)(lambda: {"ok": 1}))


def resources(api: Any, package: ModuleType, target: Any) -> None:
    """The same two, as resources of an extension."""

    class Me(package.Resource):
        @api.jwt_required()
        def get(self):
            return {"ok": 1}

        @api.jwt_required()
        def post(self):
            return {"ok": 1}

    class Fresh(package.Resource):
        @api.jwt_required(fresh=True)
        def get(self):
            return {"ok": 1}

    target.add_resource(Me, "/me")
    target.add_resource(Fresh, "/fresh")


def handler(error: Exception) -> Any:
    return {"handled": type(error).__name__}, 499, {"X-By": "handler"}


# Here a refused token is one of ours too; there it is PyJWT's alone, and does not reach these.
BROADER = ("JWTDecodeError", "JWTExtendedException")
PLAIN = ["none", "good", "header", "query", "type", "blocked", "gone", "unverified", "not fresh", "CSRF"]


def comparable(found: dict[str, Any], kind: Any) -> dict[str, Any]:
    return {what: found[what] for what in PLAIN} if kind in BROADER else found


def built(make: Any, **config: Any) -> list[dict[str, Any]]:
    """What the same application answers, built on theirs and on ours."""
    found = []
    for api, errors in BOTH:
        app = application(api, **config)
        make(app, api, errors)
        found.append(answers(app))
    assert found[0]["good"] == found[1]["good"] == (200, {"ok": 1}, None)
    return found


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """The same answers, but where nobody answers theirs, and ours are as without any extension."""
    plain = application(flask_sync)
    views(flask_sync, plain)
    better = answers(plain)
    for what, expected in theirs.items():
        nobody = expected[0] == 500 and expected[2] is None
        assert ours[what] == (better[what] if nobody else expected), what


@pytest.mark.parametrize("loaders", [False, True])
@pytest.mark.parametrize("where", ["application", "blueprint"])
@pytest.mark.parametrize("kind", HANDLED, ids=name)
def test_handlers_of_applications_and_blueprints(kind, where, loaders):
    def make(app, api, errors):
        target = app if where == "application" else flask.Blueprint("b", "b")
        views(api, target)
        target.errorhandler(of(errors, kind))(handler)
        if target is not app:
            app.register_blueprint(target)

    theirs, ours = built(make, loaders=loaders)
    if where == "blueprint":
        theirs, ours = comparable(theirs, kind), comparable(ours, kind)
    assert ours == theirs


def test_a_handler_of_the_application_spares_the_loader():
    asked = []

    def make(app, api, errors):
        views(api, app)
        app.errorhandler(errors.NoAuthorizationError)(handler)
        app.extensions["flask-jwt-extended"].unauthorized_loader(lambda _: asked.append(api) or {})

    theirs, ours = built(make)
    assert theirs["none"] == ours["none"] == (499, {"handled": "NoAuthorizationError"}, "handler")
    assert asked == [flask_jwt_extended, flask_sync]  # of the CSRF failure alone


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("kind", [None, "default", *HANDLED], ids=name)
@pytest.mark.parametrize("where", ["api", "namespace"])
def test_handlers_of_restx(kind, where, propagate):
    import flask_restx

    def make(app, api, errors):
        extension = flask_restx.Api(app, doc=False)
        namespace = flask_restx.Namespace("n", path="/")
        resources(api, flask_restx, namespace)
        extension.add_namespace(namespace)
        target = extension if where == "api" else namespace
        if kind == "default":
            extension.errorhandler(handler)
        elif kind is not None:
            target.errorhandler(of(errors, kind))(handler)

    theirs, ours = built(make, PROPAGATE_EXCEPTIONS=propagate, ERROR_INCLUDE_MESSAGE=False)
    compare(comparable(theirs, kind), comparable(ours, kind))


@pytest.mark.parametrize("kind", [None, *HANDLED], ids=name)
def test_the_map_of_restful(kind):
    import flask_restful

    def make(app, api, errors):
        named = {} if kind is None else {of(errors, kind).__name__: {"message": "mapped", "status": 499}}
        resources(api, flask_restful, flask_restful.Api(app, errors=named))

    compare(*built(make))


@pytest.mark.parametrize("package", ["flask_restx", "flask_restful"])
@pytest.mark.parametrize("kind", HANDLED, ids=name)
def test_handlers_of_the_application_around_extensions(kind, package):
    """Theirs are asked where errors are propagated, as in tests; ours always."""
    extension = pytest.importorskip(package)

    def make(app, api, errors):
        resources(api, extension, extension.Api(app))
        app.errorhandler(of(errors, kind))(handler)

    theirs, propagated = built(make, PROPAGATE_EXCEPTIONS=True)
    assert propagated == theirs
    assert built(make)[1] == theirs


@pytest.mark.parametrize("kind", HANDLED, ids=name)
def test_handlers_beside_smorest(kind):
    smorest = pytest.importorskip("flask_smorest", reason="a Flask before 2.2 has none of today's")

    def make(app, api, errors):
        app.config.update(API_TITLE="t", API_VERSION="v1", OPENAPI_VERSION="3.0.2")
        blueprint = smorest.Blueprint("b", "b")

        @blueprint.route("/me")
        class Me(MethodView):
            @api.jwt_required()
            def get(self):
                return {"ok": 1}

            @api.jwt_required()
            def post(self):
                return {"ok": 1}

        @blueprint.route("/fresh")
        class Fresh(MethodView):
            @api.jwt_required(fresh=True)
            def get(self):
                return {"ok": 1}

        smorest.Api(app).register_blueprint(blueprint)
        app.errorhandler(of(errors, kind))(handler)

    theirs, ours = built(make)
    assert ours == theirs


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["JWTExtendedException", "NoAuthorizationError"])
@pytest.mark.parametrize("loaders", [False, True])
def test_without_the_preset_an_applications_handler_wins(kind, place, loaders):
    """Whether it was registered before the manager or after it."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    if place == "before":
        app.errorhandler(of(our_errors, kind))(handler)
    manager = flask_sync.JWTManager(app)
    views(flask_sync, app)
    if loaders:
        manager.unauthorized_loader(lambda _: ({"loader": 1}, 418))
    if place == "after":
        app.errorhandler(of(our_errors, kind))(handler)
    answer = app.test_client().get("/me")
    assert (answer.status_code, answer.headers["X-By"]) == (499, "handler")


def test_a_handler_that_raises_is_a_500_and_no_loop(caplog):
    app = application(flask_sync)
    views(flask_sync, app)
    calls = []

    @app.errorhandler(our_errors.NoAuthorizationError)
    def broken(error):
        calls.append(1)
        raise error

    assert app.test_client().get("/me").status_code == 500
    assert calls == [1]
    assert "Exception on /me [GET]" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        {"identity": uuid.UUID(int=1)},
        {"identity": "u", "additional_claims": {"a": [uuid.UUID(int=2), Decimal("1.50")]}},
        {"identity": "u", "additional_claims": {"day": dt.date(2020, 1, 1)}},
        {"identity": "u", "additional_claims": {"at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}},
    ],
    ids=str,
)
def test_a_json_provider_without_a_default(given):
    """As one over a faster library: values are written as Flask's own provider does."""
    json = pytest.importorskip("flask.json.provider", reason="a Flask before 2.2 has none")

    class Provider(json.JSONProvider):
        def dumps(self, obj, **_):
            return json.DefaultJSONProvider(self._app).dumps(obj)

        def loads(self, s, **_):
            return json.DefaultJSONProvider(self._app).loads(s)

    found = []
    for api, _ in BOTH:
        app = application(api)
        app.json = Provider(app)
        with app.app_context():
            claims = api.decode_token(api.create_access_token(**given))
        found.append({claim: claims.get(claim) for claim in ("sub", "a", "day", "at")})
    assert found[0] == found[1]


def test_a_map_may_name_errors_that_only_we_have():
    import flask_restful

    app = application(flask_sync, JWT_STORE_URI="redis://127.0.0.1:1")
    named = {"StoreUnavailableError": {"message": "later", "status": 599}}
    resources(flask_sync, flask_restful, flask_restful.Api(app, errors=named))
    answer = app.test_client().get("/me", **requests()["good"])
    assert (answer.status_code, answer.json) == (599, {"message": "later", "status": 599})


@pytest.mark.parametrize("package", ["flask_restx", "flask_restful"])
def test_an_extension_has_no_say_outside_of_its_resources(package):
    extension = pytest.importorskip(package)

    def make(app, api, errors):
        resource = type("Other", (extension.Resource,), {"get": lambda self: {}})
        more = {"errors": {"NoAuthorizationError": {"status": 499}}} if package == "flask_restful" else {}
        extension.Api(app, **more).add_resource(resource, "/other")
        views(api, app)

    theirs, ours = built(make)
    assert ours == theirs


def test_others_may_stand_before_the_applications_error_handling_too():
    """As whoever measures errors: it is asked nothing, and hands them on."""
    seen = []

    def measured(original, error):
        seen.append(type(error).__name__)
        return original(error)

    app = application(flask_sync)
    views(flask_sync, app)
    app.handle_user_exception = functools.partial(measured, app.handle_user_exception)
    assert app.test_client().get("/me").status_code == 401
    assert seen == ["NoAuthorizationError"]
