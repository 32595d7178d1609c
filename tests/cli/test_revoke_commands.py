"""`jwt revoke` and `jwt sessions`, on a real server."""

from __future__ import annotations

import asyncio
import time
import uuid
from types import SimpleNamespace

import pytest

from async_jwt.operations import operations_at
from tests.harness.servers import free_port


@pytest.fixture
def shared(line, redis_url):
    """A command line for an application whose store others share."""
    line.clock.now = float(int(time.time()))  # the server has a clock of its own
    line.make(JWT_STORE_URI=f"{redis_url}?prefix={uuid.uuid4()}:")
    return line


def pair(shared, identity="alice"):
    return shared.json("token", "create", identity, "--pair")


def accepted(shared, token):
    return shared("token", "inspect", token).exit_code == 0


def test_a_token(shared):
    first, second = pair(shared), pair(shared)
    assert shared("revoke", "token", first["access_token"]).output == "The token is revoked\n"
    result = shared("token", "inspect", first["access_token"])
    assert result.output.splitlines()[-1] == "Refused with 401 token_revoked: Token has been revoked"
    assert accepted(shared, second["access_token"])
    assert shared("revoke", "token", "-", given=second["refresh_token"]).exit_code == 0
    assert not accepted(shared, second["access_token"])


def test_what_is_no_token_is_not_revoked(shared):
    result = shared("revoke", "token", "nonsense")
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")


def test_a_session(shared):
    first, second = pair(shared), pair(shared)
    result = shared("revoke", "session", first["sid"])
    assert (result.exit_code, result.output) == (0, f"Session {first['sid']} is revoked\n")
    assert not accepted(shared, first["access_token"])
    assert accepted(shared, second["access_token"])
    result = shared("revoke", "session", "unknown")
    assert (result.exit_code, result.output) == (
        1,
        "Error: Session unknown was not found; any tokens of it are refused from now on\n",
    )


def test_a_user(shared):
    alice, bob = pair(shared), pair(shared, "bob")
    assert shared("revoke", "user", "alice").output == "All tokens of alice are revoked\n"
    assert not accepted(shared, alice["refresh_token"])
    assert accepted(shared, bob["refresh_token"])
    assert accepted(shared, pair(shared)["access_token"])


def test_everything_is_asked_for_twice(shared):
    alice = pair(shared)
    result = shared("revoke", "everything", given="n\n")
    assert result.exit_code == 1
    assert "All users will have to sign in again. Revoke everything? [y/N]" in result.output
    assert accepted(shared, alice["access_token"])
    assert "All tokens are revoked" in shared("revoke", "everything", given="y\n").output
    assert not accepted(shared, alice["access_token"])
    alice = pair(shared)
    assert shared("revoke", "everything", "--yes").output == "All tokens are revoked\n"
    assert not accepted(shared, alice["access_token"])


def test_sessions(shared):
    first = pair(shared)
    shared.clock.now += 7200
    second = pair(shared)
    rows = shared("sessions", "alice").output.splitlines()
    assert rows[0].split("  ")[0] == "Session"
    assert [row.split()[0] for row in rows[1:]] == [second["sid"], first["sid"]]
    assert "(2 hours ago)" in rows[2]
    assert "(in 30 days)" in rows[1]
    found = shared.json("sessions", "alice")
    assert [session["sid"] for session in found] == [second["sid"], first["sid"]]
    assert list(found[0]) == ["sid", "device", "created_at", "last_used_at", "expires_at", "actor"]
    assert shared.json("sessions", "nobody") == []


def test_sessions_that_never_expire(shared):
    shared.app.config["JWT_REFRESH_TOKEN_EXPIRES"] = False
    pair(shared)
    assert shared("sessions", "alice").output.rstrip().endswith("never")
    assert shared.json("sessions", "alice")[0]["expires_at"] is None


def test_who_acts_as_a_user_is_named(shared):
    operations = operations_at(shared.jwt._current()[0])

    async def sign_in():
        await operations.create_token_pair("alice")
        shared.clock.now += 60
        await operations.create_token_pair("alice", additional_claims={"act": {"sub": "\x1bsupport"}})
        await shared.jwt.store.close()

    asyncio.run(sign_in())
    head, *rows = shared("sessions", "alice").output.splitlines()
    assert head.split()[-1] == "Actor"
    assert rows[0].endswith('{"sub": "\\u001bsupport"}')
    assert not rows[1].rstrip().endswith("}")
    actors = [session["actor"] for session in shared.json("sessions", "alice")]
    assert actors == [{"sub": "\x1bsupport"}, None]


def test_many_sessions_are_counted_on_a_terminal(shared, monkeypatch):
    made = {pair(shared)["sid"] for _ in range(3)}
    monkeypatch.setattr("async_jwt.cli.revoke._PAGE", 2)
    assert {session["sid"] for session in shared.json("sessions", "alice")} == made
    monkeypatch.setattr(
        "async_jwt.cli.revoke.sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True))
    )
    assert "2 sessions so far" in shared("sessions", "alice").output


def test_names_of_devices_reach_no_terminal_as_they_are(shared):
    operations = operations_at(shared.jwt._current()[0])

    async def sign_in():
        await operations.create_token_pair("alice", device="\x1b[2JPhone")
        await shared.jwt.store.close()

    asyncio.run(sign_in())
    output = shared("sessions", "alice").output
    assert "\\x1b[2JPhone" in output
    assert "\x1b" not in output


@pytest.mark.parametrize(
    "command",
    [
        ["revoke", "token", "x"],
        ["revoke", "session", "x"],
        ["revoke", "user", "x"],
        ["revoke", "everything", "--yes"],
        ["sessions", "x"],
    ],
)
def test_what_no_other_process_would_know_is_refused(line, command):
    line.make()
    result = line(*command)
    assert (result.exit_code, result.output) == (
        2,
        (
            "Error: This application keeps revocations and sessions in process memory, which this command cannot "
            'reach: set JWT_STORE_URI = "redis://..."\n'
        ),
    )


def test_a_store_that_does_not_answer(line):
    line.make(JWT_STORE_URI=f"redis://127.0.0.1:{free_port()}")
    for command in (["revoke", "user", "alice"], ["token", "create", "alice"], ["sessions", "alice"]):
        result = line(*command)
        assert result.exit_code == 3
        assert result.output.splitlines()[-1].startswith("Error: The store cannot be reached: ")
