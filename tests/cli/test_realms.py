"""The commands in a named realm."""

from __future__ import annotations

import json
import uuid

import pytest

from async_jwt import Key, KeyFolder
from tests.harness import SECRET

ADMIN = "7f3a" * 4 + SECRET[::-1]


@pytest.fixture
def realm(line, redis_url):
    """A command line for an application with customers and admins."""
    uri = f"{redis_url}?prefix={uuid.uuid4()}:"
    line.make(JWT_STORE_URI=uri, JWT_REALMS={"admin": {"JWT_SECRET_KEY": ADMIN}})
    return line


def made(line, *arguments):
    return next(iter(json.loads(line("token", "create", "7", "--json", *arguments).stdout).values()))


def accepted(line, token, *arguments):
    return line("token", "inspect", token, *arguments).exit_code == 0


def test_tokens(realm):
    admin, customer = made(realm, "--realm", "admin"), made(realm)
    assert accepted(realm, admin, "--realm", "admin")
    assert accepted(realm, customer)
    assert not accepted(realm, admin)
    assert not accepted(realm, customer, "--realm", "admin")
    shown = realm.json("token", "inspect", admin, "--realm", "admin")
    assert {part["name"]: part["problem"] for part in shown["claims"]}["async_jwt_realm"] is None
    line = realm("token", "inspect", admin).output
    assert "REFUSED" in line


def test_revocations(realm):
    admin, customer = made(realm, "--realm", "admin"), made(realm)
    assert realm("revoke", "user", "7", "--realm", "admin").exit_code == 0
    assert (accepted(realm, admin, "--realm", "admin"), accepted(realm, customer)) == (False, True)
    admin = made(realm, "--realm", "admin")
    assert realm("revoke", "token", admin, "--realm", "admin").exit_code == 0
    assert not accepted(realm, admin, "--realm", "admin")
    admin = made(realm, "--realm", "admin")
    result = realm("revoke", "everything", "--yes", "--realm", "admin")
    assert result.output == "All tokens of the realm admin are revoked\n"
    assert (accepted(realm, admin, "--realm", "admin"), accepted(realm, customer)) == (False, True)
    admin = made(realm, "--realm", "admin")
    assert realm("revoke", "everything", given="n\n").exit_code == 1
    assert realm("revoke", "everything", "--yes").output == "All tokens are revoked\n"
    assert (accepted(realm, admin, "--realm", "admin"), accepted(realm, customer)) == (False, False)


def test_sessions(realm):
    made(realm, "--pair", "--realm", "admin")
    (session,) = realm.json("sessions", "7", "--realm", "admin")
    assert realm.json("sessions", "7") == []
    assert realm("revoke", "session", session["sid"]).exit_code == 1
    assert len(realm.json("sessions", "7", "--realm", "admin")) == 1
    assert realm("revoke", "session", session["sid"], "--realm", "admin").exit_code == 0
    assert realm.json("sessions", "7", "--realm", "admin") == []


def test_keys(line, tmp_path):
    KeyFolder(tmp_path).put(Key.generate("ES256", "of-the-admins"))
    line.make(JWT_REALMS={"admin": {"JWT_KEY_FOLDER": str(tmp_path)}})
    assert "of-the-admins" in line("keys", "list", "--realm", "admin").output
    assert [key["kid"] for key in json.loads(line("keys", "jwks", "--realm", "admin").output)["keys"]] == [
        "of-the-admins"
    ]
    assert "of-the-admins" not in line("keys", "list").output


def test_a_realm_that_does_not_exist(realm):
    result = realm("token", "create", "7", "--realm", "unheard")
    assert result.exit_code == 2
    assert result.output.startswith("Error: There is no realm 'unheard': add it to JWT_REALMS")


def test_routes(realm):
    view = realm.api.jwt_required(realm="admin")(lambda: "")
    realm.app.add_url_rule("/desk", "desk", view)
    assert "access token of realm admin" in realm("routes").output
    assert realm.json("routes")[0]["demands"][0]["realm"] == "admin"


def test_the_doctor_looks_at_all_of_them(realm):
    realm.app.config["JWT_REALMS"] = {
        "admin": {
            "JWT_SECRET_KEY": "my-super-secret-for-local-use-only-12345",
            "JWT_ACCESS_TOKEN_EXPIRES": False,
        },
        "typo": {},
    }
    found = {finding["about"]: finding["what"] for finding in realm.json("doctor")}
    assert found["realm admin: JWT_ACCESS_TOKEN_EXPIRES"] == "access tokens never expire"
    assert "tutorial" in found["realm admin: JWT_SECRET_KEY"]
    assert "There is no key for HS256" in found["realm typo: keys"]
    found = {finding["about"] for finding in realm.json("doctor", "--realm", "admin")}
    assert "realm admin: JWT_ACCESS_TOKEN_EXPIRES" in found
    assert not any("typo" in about for about in found)
