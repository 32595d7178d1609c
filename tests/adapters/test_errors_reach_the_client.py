"""How errors reach the client."""

from __future__ import annotations

import jwt as pyjwt
import pytest

from async_jwt import errors
from async_jwt.errors import (
    ConfigurationError,
    CSRFError,
    JWTDecodeError,
    JWTExtendedException,
    NoAuthorizationError,
    RevokedTokenError,
    StoreUnavailableError,
)
from async_jwt.signals import token_issued, token_refused, user_loaded
from async_jwt.stores import MemoryStore
from async_jwt.testing import frozen_clock
from tests.harness import SECRET

pytestmark = pytest.mark.asyncio

CONCRETE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, JWTExtendedException) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
async def test_applications_may_raise_each_error_bare(harness, kind):
    h = harness()

    async def view():
        raise kind

    h.view("/raise", view)
    answer = await h.call("/raise")
    assert answer.status == kind.status
    assert answer.code == kind.error_code
    assert answer.json["msg"] == kind.default_message
    challenged = kind.status == 401 or kind.bearer_error is not None
    assert ("WWW-Authenticate" in answer.headers) is challenged
    assert ("Retry-After" in answer.headers) is (kind.status == 503)


async def test_an_error_raised_by_the_application_reaches_its_loader(harness):
    h = harness()

    @h.jwt.revoked_token_loader
    async def revoked(header, claims):
        return {"gone": claims}, 410

    async def view():
        raise RevokedTokenError({}, {"sub": "alice"})

    h.view("/raise", view)
    answer = await h.call("/raise")
    assert (answer.status, answer.json) == (410, {"gone": {"sub": "alice"}})


async def test_an_expired_token_that_a_view_decodes_reaches_its_loader(harness):
    h = harness()
    old = await h.mint(expires_delta=-5)

    @h.jwt.expired_token_loader
    async def expired(header, claims):
        return {"expired": claims["sub"]}, 401

    async def view():
        await h.api.decode_token(old)

    h.view("/decode", view)
    assert (await h.call("/decode")).json == {"expired": "alice"}


async def test_the_applications_general_handlers_do_not_win(harness):
    from werkzeug.exceptions import HTTPException

    h = harness()

    @h.app.errorhandler(HTTPException)
    async def http(error):
        return {"by": "http"}, 500

    @h.app.errorhandler(Exception)
    async def any_(error):
        return {"by": "any"}, 500

    @h.app.errorhandler(401)
    async def unauthorized(error):
        return {"by": "401"}, 500

    assert (await h.call()).code == "authorization_required"


async def test_the_applications_handler_for_our_class_does_win(harness):
    h = harness()

    @h.app.errorhandler(NoAuthorizationError)
    async def absent(error):
        return {"by": "application", "code": error.error_code}, 418

    assert (await h.call()).json == {"by": "application", "code": "authorization_required"}


async def test_twins_are_our_class_and_an_http_exception_with_a_response(harness):
    from werkzeug.exceptions import HTTPException

    h = harness()

    async def view():
        with pytest.raises(HTTPException, match="Missing Authorization Header") as caught:
            await h.api.verify_jwt_in_request()
        assert isinstance(caught.value, NoAuthorizationError)
        return {"code": caught.value.code, "response": caught.value.get_response().status_code}

    h.view("/twin", view)
    assert (await h.call("/twin")).json == {"code": 401, "response": 401}


async def test_what_a_view_raises_of_ours_is_a_twin_for_the_applications_handlers_too(harness):
    """Many of them hand on whatever is an HTTPException."""
    from werkzeug.exceptions import HTTPException

    h = harness()

    @h.app.errorhandler(JWTDecodeError)
    async def refused(error):
        is_http = isinstance(error, HTTPException)
        assert isinstance(error.__cause__, JWTDecodeError)  # with the view's traceback
        return {"status": error.get_response().status_code if is_http else None}, 418

    async def view():
        await h.api.decode_token("no token")

    h.view("/decode", view)
    assert (await h.call("/decode")).json == {"status": 401}


async def test_what_a_loader_raises_reaches_the_applications_handlers_however_it_was_asked(harness):
    h = harness()

    class Odd(Exception):
        pass

    @h.jwt.invalid_token_loader
    async def broken(message):
        raise Odd(message)

    @h.app.errorhandler(Odd)
    async def handled(error):
        return {"odd": True}, 418

    async def view():
        await h.api.decode_token("no token")

    h.view("/decode", view)
    assert (await h.call("/decode")).status == 418
    assert (await h.call(token="no token")).status == 418


async def test_a_token_that_expires_while_its_key_is_looked_for_is_refused(harness):
    h = harness()

    @h.jwt.decode_key_loader
    async def slow(header, claims):
        clock.tick(100)
        return SECRET

    with frozen_clock(h.app) as clock:
        assert (await h.call(token=await h.mint(expires_delta=50))).code == "token_expired"
        assert (await h.call(token=await h.mint(expires_delta=200))).status == 200


async def test_problem_details(harness):
    answer = await harness({"JWT_ERROR_FORMAT": "problem"}).call()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "status": 401,
        "detail": "Missing Authorization Header",
        "code": "authorization_required",
    }


async def test_message_key_and_status(harness):
    h = harness({"JWT_ERROR_MESSAGE_KEY": "message", "JWT_INVALID_TOKEN_STATUS": 403})
    answer = await h.call(token="a.b.c")
    assert (answer.status, answer.json["message"]) == (403, "The token is not valid")
    assert "WWW-Authenticate" in answer.headers


async def test_compat_answers_as_flask_jwt_extended(harness):
    h = harness({"JWT_COMPAT": "flask-jwt-extended", "JWT_TOKEN_LOCATION": ["headers", "query_string"]})
    h.jwt.user_lookup_loader(lambda header, claims: None if claims["sub"] == "bob" else claims["sub"])
    token = await h.mint()
    wanted = {
        (401, "Missing 'jwt' query paramater"): {"path": "/query"},
        (422, "Not enough segments"): {"token": "x"},
        (422, "Signature verification failed"): {"token": token[:-4] + "AAAA"},
        (422, "Only refresh tokens are allowed"): {"path": "/refresh", "token": token},
        (422, "Only non-refresh tokens are allowed"): {"token": await h.mint_refresh()},
        (401, "Token has expired"): {"token": await h.mint(expires_delta=-1)},
        (401, "Fresh token required"): {"path": "/fresh", "token": token},
        (401, "Error loading the user bob"): {"token": await h.mint("bob")},
    }
    for (status, message), call in wanted.items():
        answer = await h.call(**call)
        assert (answer.status, answer.json) == (status, {"msg": message})
        assert "WWW-Authenticate" not in answer.headers
    assert (await h.call(token=token)).status == 200
    # As there, a type of one's own is an access token's; what `create_token` makes for a purpose is not.
    own = await h.mint(additional_claims={"type": "reset"})
    purpose = await h.jwt.create_token("alice", type="reset")
    for path in ("/me", "/either"):
        assert (await h.call(path, token=own)).status == 200
        assert (await h.call(path, token=purpose)).status == 422
    assert (await h.call("/reset", token=purpose)).status == 200


async def test_an_outage_is_503_and_never_401(harness):
    class Down(MemoryStore):
        async def check(self, ref):
            raise StoreUnavailableError

    for compat in (None, "flask-jwt-extended"):
        h = harness({"JWT_COMPAT": compat}, store=Down())
        answer = await h.call(token=await h.mint())
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "WWW-Authenticate" not in answer.headers


async def test_refusals_are_told_without_the_token(harness):
    h = harness()
    told = []

    @token_refused.connect_via(h.app)
    def listen(sender, **arguments):
        told.append(arguments)

    await h.call(token="a.b.c")
    stale = await h.mint()
    await h.call("/fresh", token=stale)
    claims = await h.jwt.decode_token(stale)
    assert [entry["code"] for entry in told] == ["token_invalid", "fresh_token_required"]
    assert (told[1]["identity"], told[1]["jti"]) == ("alice", claims["jti"])
    for secret in ("a.b.c", stale, claims["csrf"]):
        assert secret not in repr(told)


async def test_a_failing_receiver_changes_nothing(harness, caplog):
    h = harness()

    @token_refused.connect_via(h.app)
    async def listen(sender, **arguments):
        raise LookupError("mine")

    assert (await h.call()).status == 401
    assert "LookupError" in caplog.text


async def test_issued_tokens_and_loaded_users_are_told(harness):
    h = harness()
    told = []
    h.jwt.user_lookup_loader(lambda header, claims: {"name": claims["sub"]})

    @token_issued.connect_via(h.app)
    async def issued(sender, **arguments):
        told.append((arguments["identity"], arguments["type"]))

    @user_loaded.connect_via(h.app)
    async def loaded(sender, user, identity):
        told.append((identity, user["name"]))

    pair = await h.jwt.create_token_pair("alice")
    await h.call(token=pair.access_token)
    assert told == [("alice", "access"), ("alice", "refresh"), ("alice", "alice")]


async def test_nothing_secret_is_logged(harness, caplog):
    caplog.set_level("DEBUG")
    h = harness({"JWT_TOKEN_LOCATION": ["cookies"]})
    token = await h.mint()
    csrf = (await h.jwt.decode_token(token))["csrf"]
    for headers in ({"X-CSRF-TOKEN": csrf}, {"X-CSRF-TOKEN": "wrong-value"}, {}):
        await h.call(method="POST", cookies={"access_token_cookie": token}, headers=headers)
    await h.call(cookies={"access_token_cookie": token[:-4] + "AAAA"})
    assert "csrf_failed" in caplog.text
    for secret in (token, token[:-4], csrf, "wrong-value", h.app.config["JWT_SECRET_KEY"]):
        assert secret not in caplog.text


async def test_missing_secret_is_an_error_at_first_use(harness):
    h = harness({"JWT_SECRET_KEY": None})
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        await h.mint()
    assert (await h.call(token="a.b.c")).status == 500


async def test_a_client_cannot_choose_the_kind_of_key(harness):
    from tests.harness.keys import PUBLIC_PEMS

    public = PUBLIC_PEMS["RS256"]
    h = harness({"JWT_ALGORITHM": "RS256", "JWT_DECODE_ALGORITHMS": ["HS256"], "JWT_PUBLIC_KEY": public})
    import hashlib
    import hmac

    from tests.adapters.test_bad_input_is_never_a_500 import b64

    for secret in (public, public.strip(), public + "\n"):
        text = f'{b64(b"""{"alg":"HS256"}""")}.{b64(b"""{"sub":"x","type":"access"}""")}'
        forged = f"{text}.{b64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"
        assert (await h.call(token=forged)).status == 401
        h.jwt.decode_key_loader(lambda header, claims: public)
        assert (await h.call(token=forged)).status == 401


async def test_a_refusal_is_not_its_own_cause(harness):
    """Tools that walk the causes of an error come to an end."""
    h = harness()
    seen = []

    def handle(error):
        seen.append(error)
        return {"handled": True}, 418

    h.app.register_error_handler(NoAuthorizationError, handle)
    assert (await h.call("/me")).status == 418
    causes, error = [], seen[0]
    while error is not None:
        assert error not in causes
        causes.append(error)
        error = error.__cause__
    assert len(causes) >= 2


@pytest.mark.parametrize("compat", [{}, {"JWT_COMPAT": "flask-jwt-extended"}])
async def test_a_users_name_forges_no_line_in_the_log(harness, caplog, compat):
    caplog.set_level("DEBUG", "async_jwt")
    h = harness(compat)
    h.jwt.user_lookup_loader(lambda _header, _claims: None)
    name = "eve\n12:00:00 CRITICAL async_jwt.store The revocation store lost data\x1b[2J\x1b]0;owned\x07"
    answer = await h.call(token=await h.mint(name))
    assert answer.status == 401
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()


# -- who answers -------------------------------------------------------------------------

OWN = "the application's"


async def handled(error):
    return {"by": OWN, "class": type(error).__name__}, 418


def answering(harness, config, *, loader, registered):
    """An application with an error handler, or several, and perhaps a loader."""
    h = harness({"JWT_ERROR_MESSAGE_KEY": "msg", **config})
    if loader:

        @h.jwt.expired_token_loader
        async def expired(header, claims):
            return {"by": "the loader"}, 410

    for kind in registered:
        h.app.errorhandler(kind)(handled)
    return h


async def expired_token(h):
    with frozen_clock(h.app, 1_000):
        return await h.mint(expires_delta=1)


PRESET = {"JWT_COMPAT": "flask-jwt-extended"}


@pytest.mark.parametrize(
    ("config", "kind", "wins", "name"),
    [
        ({}, errors.ExpiredTokenError, True, "ExpiredTokenError"),
        ({}, JWTDecodeError, True, "ExpiredTokenError"),
        ({}, pyjwt.ExpiredSignatureError, True, "ExpiredTokenError"),
        ({}, JWTExtendedException, True, "ExpiredTokenError"),
        ({}, pyjwt.InvalidTokenError, False, ""),
        ({}, pyjwt.PyJWTError, False, ""),
        ({}, Exception, False, ""),
        (PRESET, errors.ExpiredTokenError, True, "ExpiredSignatureError"),
        (PRESET, pyjwt.ExpiredSignatureError, True, "ExpiredSignatureError"),
        (PRESET, JWTDecodeError, False, ""),
        (PRESET, JWTExtendedException, False, ""),
        (PRESET, Exception, False, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("loader", [False, True])
async def test_who_answers_a_refusal(harness, config, kind, wins, name, loader):
    h = answering(harness, config, loader=loader, registered=[kind])
    answer = await h.call(token=await expired_token(h))
    if wins:
        assert (answer.status, answer.json) == (418, {"by": OWN, "class": name})
    elif loader:
        assert (answer.status, answer.json) == (410, {"by": "the loader"})
    else:
        assert (answer.status, answer.json["msg"]) == (401, "Token has expired")


async def test_loaders_that_answer_get_the_error_if_they_ask_for_it(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "cookies"]})

    def unauthorized(message, error):
        return {"msg": message, "csrf": isinstance(error, CSRFError)}, 401

    async def expired(header, claims, error):
        return {"sub": claims["sub"], "code": error.error_code}, 401

    h.jwt.unauthorized_loader(unauthorized)
    h.jwt.expired_token_loader(expired)
    assert (await h.call()).json["csrf"] is False
    cookies = {"access_token_cookie": await h.mint()}
    assert (await h.call(method="POST", cookies=cookies)).json["csrf"] is True
    assert (await h.call(token=await expired_token(h))).json == {"sub": "alice", "code": "token_expired"}


async def test_a_message_that_is_called_error_stays_the_message(harness):
    """As most of Flask-JWT-Extended's users write it."""
    h = harness()
    h.jwt.unauthorized_loader(lambda error: ({"msg": error}, 401))
    assert (await h.call()).json == {"msg": "Missing Authorization Header"}


async def test_other_hooks_get_no_error(harness):
    h = harness()
    with pytest.raises(ConfigurationError, match="user_lookup_loader calls its hook with"):
        h.jwt.user_lookup_loader(lambda header, claims, error: None)
