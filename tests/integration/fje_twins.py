"""One application, written once for Flask-JWT-Extended, built on it and on `flask_sync`."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
import sys
import time
from typing import Any

import flask
import flask_jwt_extended
import jwt as pyjwt

from async_jwt.adapters import flask_sync
from tests.harness import SECRET

USERS = {"alice": {"name": "Alice"}, "7": {"name": "Seven"}}

DEMANDS: dict[str, dict[str, Any]] = {
    "me": {},
    "optional": {"optional": True},
    "fresh": {"fresh": True},
    "refresh": {"refresh": True},
    "either": {"verify_type": False},
    "unchecked": {"skip_revocation_check": True},
    "query": {"locations": "query_string"},
    "cookie": {"locations": ["cookies"]},
    "optional_cookies": {"locations": ["cookies"], "optional": True},
    "everywhere": {"locations": ["headers", "cookies", "query_string", "json"]},
    "body_first": {"locations": ["json", "headers"], "optional": True},
}


def build(api: Any, config: dict[str, Any], *, loaders: bool) -> flask.Flask:
    """The application. `api` is a package's front door, nothing else differs."""
    app = flask.Flask("twin")
    app.config.update({"JWT_SECRET_KEY": SECRET, **config})
    jwt = api.JWTManager(app, add_context_processor=True)
    blocked: set[str] = set()

    @jwt.token_in_blocklist_loader
    def is_blocked(_header, claims):
        return claims["jti"] in blocked

    if loaders:
        _answer_oneself(jwt)

    def report():
        return {
            "identity": api.get_jwt_identity(),
            "claims": api.get_jwt(),
            "header": api.get_jwt_header(),
            "location": api.get_jwt_request_location(),
            "user": bool(api.current_user) if loaders else None,
        }

    for name, demands in DEMANDS.items():
        methods = ["GET", "POST", "PUT", "DELETE"]
        app.add_url_rule(f"/{name}", name, api.jwt_required(**demands)(report), methods=methods)

    @app.post("/block")
    @api.jwt_required(verify_type=False)
    def block():
        blocked.add(api.get_jwt()["jti"])
        return {}

    @app.get("/page")
    @api.jwt_required()
    def page():
        return flask.render_template_string("{{ current_user.name }}")

    _views_with_cookies(app, api)
    _views_with_tokens(app, api)
    return app


def _views_with_cookies(app: flask.Flask, api: Any) -> None:
    @app.post("/cookies")
    def cookies():
        sent = flask.request.get_json()
        response = flask.jsonify({})
        api.set_access_cookies(response, sent["access"], **sent["options"])
        api.set_refresh_cookies(response, sent["refresh"], **sent["options"])
        return response

    @app.delete("/cookies")
    def uncookies():
        sent = flask.request.get_json()
        response = flask.jsonify({})
        getattr(api, sent["which"])(response, **sent["options"])
        return response


def _views_with_tokens(app: flask.Flask, api: Any) -> None:
    @app.post("/tokens")
    def tokens():
        sent = flask.request.get_json()
        hours = sent.pop("hours", None)
        if hours is not None:
            sent["expires_delta"] = hours and dt.timedelta(hours=hours)
        make = api.create_refresh_token if sent.pop("refresh", False) else api.create_access_token
        return {"token": make(**sent)}

    @app.post("/decode")
    def decode():
        sent = flask.request.get_json()
        try:
            return {
                "decoded": api.decode_token(**sent),
                "jti": api.get_jti(sent["encoded_token"]),
                "header": api.get_unverified_jwt_headers(sent["encoded_token"]),
            }
        except pyjwt.ExpiredSignatureError:
            raise
        except pyjwt.PyJWTError as error:
            return {"caught": str(error)}, 418


def _answer_oneself(jwt: Any) -> None:
    def answer(name: str, *about: Any) -> Any:
        return flask.jsonify(loader=name, about=about), 460

    for name in ("expired_token", "needs_fresh_token", "revoked_token", "token_verification_failed"):
        getattr(jwt, f"{name}_loader")(lambda *about, name=name: answer(name, *about))
    jwt.user_lookup_error_loader(lambda *about: answer("user_lookup_error", *about))
    jwt.invalid_token_loader(lambda message: answer("invalid_token", message))
    jwt.unauthorized_loader(lambda message: answer("unauthorized", message))
    jwt.user_identity_loader(lambda identity: identity)
    jwt.additional_claims_loader(lambda identity: {"for": identity, "roles": ["a", "b"]})
    jwt.additional_headers_loader(lambda identity: {"h": identity})
    jwt.token_verification_loader(lambda _header, claims: claims.get("verified", True))
    jwt.user_lookup_loader(lambda _header, claims: USERS.get(claims.get("sub")))


def twins(config: dict[str, Any], *, loaders: bool = False) -> tuple[flask.Flask, flask.Flask]:
    """The original and ours, under one configuration."""
    theirs = build(flask_jwt_extended, dict(config), loaders=loaders)
    ours = build(flask_sync, {**config, "JWT_COMPAT": "flask-jwt-extended"}, loaders=loaders)
    return theirs, ours


def _sign(claims: Any, key: Any = SECRET, headers: dict[str, Any] | None = None, alg: str = "HS256") -> str:
    return pyjwt.encode(claims, key, alg, headers=headers)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tokens() -> dict[str, str]:
    """Good tokens and bad ones, by what they are."""
    now = int(time.time())
    base = {
        "sub": "alice",
        "type": "access",
        "fresh": False,
        "iat": now,
        "nbf": now,
        "exp": now + 900,
        "jti": "j1",
        "csrf": "c1",
    }
    good = _sign(base)
    head, body, signature = good.split(".")
    changes: dict[str, dict[str, Any]] = {
        "access": {},
        "fresh": {"fresh": True},
        "fresh a while": {"fresh": now + 60.5},
        "fresh no more": {"fresh": now - 60.5},
        "refresh": {"type": "refresh", "jti": "j2"},
        "of a purpose": {"type": "reset", "jti": "j3"},
        "expired": {"exp": now - 60},
        "expired refresh": {"exp": now - 60, "type": "refresh"},
        "expired a second ago": {"exp": now - 1},
        "not yet": {"nbf": now + 900},
        "issued in the future": {"iat": now + 900},
        "no user": {"sub": "nobody"},
        "unverified": {"verified": False},
        "sub number": {"sub": 7},
        "sub object": {"sub": {"a": 1}},
        "jti number": {"jti": 7},
        "exp text": {"exp": "soon"},
        "exp digits": {"exp": str(now + 900)},
        "exp float": {"exp": now + 900.5},
        "nbf text": {"nbf": "soon"},
        "iat text": {"iat": "soon"},
        "aud": {"aud": "here"},
        "auds": {"aud": ["there", "here"]},
        "other aud": {"aud": "elsewhere"},
        "aud number": {"aud": 7},
        "iss": {"iss": "us"},
        "other iss": {"iss": "them"},
        "csrf other": {"csrf": "c2"},
        "sid number": {"sid": 42},
        "sid null": {"sid": None},
        "gen number": {"gen": 3},
        "gen of the application": {"gen": "male"},
        "type number": {"type": 2},
        "type list": {"type": ["refresh"]},
        "type null": {"type": None},
        "more": {"deep": {"er": [1, {"x": None}]}, "ünï": "cödé"},
    }
    made = {name: _sign({**base, **change}) for name, change in changes.items()}
    for name in ("sub", "type", "fresh", "iat", "nbf", "exp", "jti", "csrf"):
        made[f"without {name}"] = _sign({key: value for key, value in base.items() if key != name})
    made |= {
        "other key": _sign(
            base, "another secret, long enough for any of the hashes that HMAC uses, 64 bytes"
        ),
        "HS384": _sign(base, alg="HS384"),
        "unsigned": _sign(base, None, alg="none"),
        "kid": _sign(base, headers={"kid": "k", "h": 1}),
        "cut": f"{head}.{body}",
        "cut signature": f"{head}.{body}.{signature[:-4]}",
        "no signature": f"{head}.{body}.",
        "changed": f"{head}.{_b64(json.dumps({**base, 'sub': 'bob'}).encode())}.{signature}",
        "garbage": "garbage",
        "garbage in parts": "gar.ba.ge",
        "header no JSON": f"{_b64(b'{')}.{body}.{signature}",
        "header no object": f"{_b64(b'[]')}.{body}.{signature}",
        "dots": "...",
        "four parts": f"{good}.{signature}",
    }
    return made


def recipes(api: Any, config: dict[str, Any]) -> flask.Flask:
    """What the original's documentation shows applications to do."""
    app = flask.Flask("recipes")
    app.config.update({"JWT_SECRET_KEY": SECRET, "JWT_TOKEN_LOCATION": ["headers", "cookies"], **config})
    jwt = api.JWTManager(app)

    @jwt.user_identity_loader
    def identity_of(user):
        return user["id"]

    @jwt.user_lookup_loader
    def user_of(_header, claims):
        return {"id": claims["sub"], "name": f"user {claims['sub']}"}

    @app.after_request
    def renew(response):
        # Anonymous requests, and those that were refused, have nothing to renew.
        try:
            ends = api.get_jwt()["exp"]
        except (RuntimeError, KeyError):
            return response
        if ends - time.time() < 600:
            token = api.create_access_token({"id": api.get_jwt_identity()})
            api.set_access_cookies(response, token)
            response.headers["X-Renewed"] = "yes"
        return response

    _recipes_of_users(app, api)
    _recipes_of_errors(app, api)
    return app


def _recipes_of_users(app: flask.Flask, api: Any) -> None:
    def admin_required(view):
        @functools.wraps(view)
        def checked(*args, **kwargs):
            api.verify_jwt_in_request()
            if api.get_jwt().get("admin"):
                return view(*args, **kwargs)
            return flask.jsonify(msg="Admins only"), 403

        return checked

    @app.get("/whoami")
    @api.jwt_required(optional=True)
    def whoami():
        if not api.current_user:
            return flask.jsonify(name=None)
        return flask.jsonify(name=api.current_user["name"], id=api.get_current_user()["id"])

    @app.get("/admin")
    @admin_required
    def admin():
        return flask.jsonify(claims=sorted(api.get_jwt()))


def _recipes_of_errors(app: flask.Flask, api: Any) -> None:
    @app.get("/tries")
    def tries():
        outcomes = []
        for demands in ({"refresh": True}, {"fresh": True}, {"locations": "query_string"}, {}):
            try:
                header, claims = api.verify_jwt_in_request(**demands)
                outcomes.append([header["alg"], claims["sub"]])
            except Exception as error:  # noqa: BLE001  # by name: the classes are each library's own
                outcomes.append(type(error).__name__)
        if not isinstance(outcomes[-1], list):
            # After a refused check nobody is authenticated here, where FJE keeps whom it found before.
            return flask.jsonify(passed=[isinstance(outcome, list) for outcome in outcomes])
        return flask.jsonify(outcomes=outcomes, identity=api.get_jwt_identity())

    @app.get("/raise/<name>")
    def raise_(name):
        errors = sys.modules[
            "flask_jwt_extended.exceptions" if api is flask_jwt_extended else "async_jwt.errors"
        ]
        raise getattr(errors, name)("what the application says")
