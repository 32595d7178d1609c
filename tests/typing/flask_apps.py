"""Checked by mypy, not run: Flask's two adapters, awaited and blocking."""

from __future__ import annotations

from typing import Any, assert_type

from flask import Flask, Response

from async_jwt import KeyRing, MemoryStore, Store, TokenPair
from async_jwt.adapters import flask, flask_sync

app = Flask(__name__)
jwt = flask_sync.JWTManager(app, store=MemoryStore())
awaited = flask.JWTManager(app)
assert_type(jwt.store, Store)
assert_type(jwt.keys, KeyRing)


@jwt.user_lookup_loader
def load(header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    return None


@awaited.user_lookup_loader(inline=True)
async def load_later(header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    return None


@flask_sync.jwt_required
def bare(number: int) -> str:
    return str(number)


@flask_sync.jwt_required(optional=True, locations=["headers", "cookies"])
def with_arguments(number: int) -> str:
    return str(number)


@flask.jwt_required(type={"reset"})
async def later() -> dict[str, str]:
    return {}


class User:
    name: str


def use() -> None:
    assert_type(flask_sync.current_user_as(User).name, str)
    assert_type(flask.current_user_as(User).name, str)
    assert_type(bare(1), str)
    assert_type(with_arguments(number=1), str)
    assert_type(flask_sync.create_access_token("alice", fresh=True), str)
    assert_type(flask_sync.create_token_pair("alice"), TokenPair)
    assert_type(flask_sync.consume_token({"jti": "one"}), bool)
    assert_type(jwt.consume_token("t", others=True), bool)
    jwt.expire_access_tokens("alice")
    assert_type(flask_sync.authenticate_token("t"), flask_sync.Authentication)
    assert_type(flask_sync.sign_out(Response("")), bool)
    assert_type(flask_sync.safe_next("/a"), str)
    assert_type(flask_sync.decode_token("t"), dict[str, Any])
    assert_type(flask_sync.get_jti("t"), str | None)
    assert_type(flask_sync.get_jwt(), dict[str, Any])
    assert_type(flask_sync.current_auth(), flask_sync.Authentication | None)
    assert_type(flask_sync.verify_jwt_in_request(), tuple[dict[str, Any], dict[str, Any]] | None)
    assert_type(jwt.create_access_token("alice"), str)
    flask_sync.set_access_cookies(Response(""), "t")


async def use_later() -> None:
    assert_type(await later(), dict[str, str])
    assert_type(await flask.create_access_token("alice", fresh=True), str)
    assert_type(await flask.create_token_pair("alice"), TokenPair)
    assert_type(await flask.verify_jwt_in_request(), tuple[dict[str, Any], dict[str, Any]] | None)
    assert_type(await awaited.create_access_token("alice"), str)
    assert_type(await flask.consume_token(), bool)
    assert_type(await flask.sign_out(), bool)
    assert_type(await awaited.decode_token("t"), dict[str, Any])
