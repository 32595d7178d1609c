"""`authenticate_token`: every check of a view, for a token that came in no request."""

from __future__ import annotations

import pytest

from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    FreshTokenRequired,
    JWTDecodeError,
    RevokedTokenError,
    UserClaimsVerificationError,
    UserLookupError,
    WrongTokenError,
)
from async_jwt.signals import user_loaded
from tests.harness.applications import however_it_runs

pytestmark = [pytest.mark.asyncio, however_it_runs]


async def test_what_it_finds(make_app):
    app = make_app()
    users = []
    user_loaded.connect(lambda _, **sent: users.append(sent), app.app, weak=False)

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"].upper()

    found = await app.jwt.authenticate_token(await app.mint(additional_claims={"tenant": "a"}))
    assert (found.identity, found.user, found.location) == ("alice", "ALICE", "text")
    assert found.claims["tenant"] == "a"
    assert users == [{"user": "ALICE", "identity": "alice"}]


async def test_each_check_refuses(make_app, clock):
    app = make_app(clock=clock)
    rejected, users = set(), {"alice"}

    @app.jwt.token_verification_loader
    async def verify(header, data):
        return data["sub"] not in rejected

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"] if data["sub"] in users else None

    check = app.jwt.authenticate_token
    good = await app.mint()
    assert (await check(good)).user == "alice"
    for odd in (None, 7, b"x.y.z", "", "x.y.z", good[:-2], good + "\udcff"):
        with pytest.raises(JWTDecodeError):
            await check(odd)
    with pytest.raises(FreshTokenRequired):
        await check(good, fresh=True)
    with pytest.raises(UserLookupError):
        await check(await app.mint("bob"))
    rejected.add("alice")
    with pytest.raises(UserClaimsVerificationError):
        await check(good)
    rejected.clear()
    await app.jwt.revoke_token(good)
    with pytest.raises(RevokedTokenError):
        await check(good)
    assert (await check(good, skip_revocation_check=True)).identity == "alice"
    clock.now += 10**6
    with pytest.raises(ExpiredTokenError):
        await check(good)


async def test_of_the_type_that_is_asked_for(make_app):
    app = make_app()
    refresh, reset = await app.mint_refresh(), await app.jwt.create_token("alice", type="reset")
    check = app.jwt.authenticate_token
    for token in (refresh, reset):
        with pytest.raises(WrongTokenError):
            await check(token)
    assert (await check(refresh, type="refresh")).claims["type"] == "refresh"
    assert (await check(reset, type=["reset", "access"])).claims["type"] == "reset"
    with pytest.raises(ConfigurationError):
        await check(refresh, type="")


async def test_a_refresh_token_is_only_read(make_app, clock):
    """A replay is refused, and ends nothing: the text may be a copy that somebody else sent."""
    app = make_app({"JWT_REFRESH_GRACE": 0}, clock=clock)

    @app.api.jwt_required(refresh=True)
    async def rotate():
        pair = await app.api.rotate_refresh_token()
        return {"refresh": pair.refresh_token}

    app.view("/rotate", rotate)
    pair = await app.jwt.create_token_pair("alice")
    for _ in range(2):
        assert (await app.jwt.authenticate_token(pair.refresh_token, type="refresh")).identity == "alice"
    new = (await app.call("/rotate", token=pair.refresh_token)).json["refresh"]
    for _ in range(2):
        with pytest.raises(RevokedTokenError):
            await app.jwt.authenticate_token(pair.refresh_token, type="refresh")
    assert (await app.call("/rotate", token=new)).status == 200


async def test_the_request_stays_what_it_was(make_app):
    app = make_app()
    other = await app.mint("bob")

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"]

    @app.api.jwt_required()
    async def view():
        found = await app.api.authenticate_token(other)
        return {"other": found.user, "own": app.api.get_jwt_identity(), "user": app.api.get_current_user()}

    async def unprotected():
        await app.api.authenticate_token("junk")
        return {}

    app.view("/both", view)
    app.view("/junk", unprotected)
    answer = await app.call("/both", token=await app.mint())
    assert answer.json == {"other": "bob", "own": "alice", "user": "alice"}
    assert ((refused := await app.call("/junk")).status, refused.code) == (401, "token_invalid")


async def test_a_call_that_was_not_awaited(make_app):
    app = make_app()

    async def forgotten():
        return "token"

    with pytest.raises(TypeError, match="await the call"):
        await app.jwt.authenticate_token(forgotten())
