"""Checked by mypy, not run: what the decorators and functions are to a type checker."""

from __future__ import annotations

from typing import Any, assert_type

from quart import Quart, Response

from async_jwt import KeyRing, MemoryStore, Store, TokenPair
from async_jwt.adapters.quart import (
    Authentication,
    CookieScope,
    JWTManager,
    authenticate_token,
    consume_token,
    create_access_token,
    create_token_pair,
    current_auth,
    current_user_as,
    decode_token,
    expire_access_tokens,
    get_jti,
    get_jwt,
    jwt_csrf_token,
    jwt_required,
    safe_next,
    set_access_cookies,
    sign_out,
    verify_jwt_in_request,
)

app = Quart(__name__)
jwt = JWTManager(app, store=MemoryStore())
assert_type(jwt.store, Store)
assert_type(jwt.keys, KeyRing)


@jwt.user_lookup_loader
async def load(header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    return None


@jwt.token_verification_loader(inline=True)
def verify(header: dict[str, Any], claims: dict[str, Any]) -> bool:
    return True


@jwt.unauthorized_loader
def unauthorized(message: str, error: Exception) -> tuple[dict[str, str], int]:
    return {"msg": message}, 401


@jwt.user_lookup_loader  # type: ignore[type-var]
def of_one_argument(claims: dict[str, Any]) -> str:
    return ""


@jwt.expired_token_loader
async def expired(header: dict[str, Any], claims: dict[str, Any]) -> Response:
    return Response("")


@jwt.cookie_scope_loader
def scope(request: Any) -> CookieScope | None:
    return CookieScope("acme", "/acme")


@jwt.cookie_scope_loader  # type: ignore[type-var]
async def scope_later(request: Any) -> CookieScope | None:
    return None


@jwt_required
async def bare(number: int) -> str:
    return str(number)


@jwt_required(optional=True, locations=["headers", "cookies"])
async def with_arguments(number: int) -> str:
    return str(number)


@jwt_required(type={"reset"}, once="get")
def plain() -> dict[str, str]:
    return {}


class User:
    name: str


# The only places there are.
jwt_required(locations="cookie")  # type: ignore[arg-type]
jwt_required(once="post")  # type: ignore[call-overload]
jwt_required(locations=["headers", "cookies"])
jwt_required(optional=True, lenient=True, refresh_cookie=True)


async def use() -> None:
    assert_type(current_user_as(User).name, str)
    assert_type(await bare(1), str)
    assert_type(await with_arguments(number=1), str)
    assert_type(plain(), dict[str, str])
    assert_type(await create_access_token("alice", fresh=True), str)
    assert_type(await create_token_pair("alice", counts=False), TokenPair)
    assert_type(await consume_token("t", others=True), bool)
    await expire_access_tokens("alice")
    assert_type(await authenticate_token("t", type=["reset", "invite"]), Authentication)
    assert_type(await sign_out(Response(""), everywhere=True), bool)
    assert_type(jwt_csrf_token(), str)
    assert_type(safe_next(default="/account"), str)
    assert_type(await create_token_pair("alice", persistent=True), TokenPair)
    assert_type(await jwt.consume_token(), bool)
    assert_type(await decode_token("t"), dict[str, Any])
    assert_type(await get_jti("t"), str | None)
    assert_type(get_jwt(), dict[str, Any])
    assert_type(current_auth(), Authentication | None)
    assert_type(await verify_jwt_in_request(), tuple[dict[str, Any], dict[str, Any]] | None)
    assert_type(verify({}, {}), bool)
    assert_type(await load({}, {}), str | None)
    set_access_cookies(Response(""), "t")
