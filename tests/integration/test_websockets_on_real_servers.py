"""WebSockets under Hypercorn and Uvicorn, with a real client."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.integration.conftest import SERVERS

pytestmark = pytest.mark.parametrize("server", SERVERS)


def asked(socket):
    socket.send("hello")
    return json.loads(socket.recv(timeout=10))


def refused(url, **options):
    with pytest.raises(InvalidStatus) as caught, connect(url, **options):
        pass
    return caught.value.response


def test_tokens_open_sockets_from_every_place(serve, server):
    url = serve(server=server)
    login = httpx.post(f"{url}/login/ada")
    token = login.json()["access"]
    place = url.replace("http:", "ws:") + "/socket"
    cookie = f"access_token_cookie={login.cookies['access_token_cookie']}"
    for location, path, options in [
        ("headers", place, {"additional_headers": {"Authorization": f"Bearer {token}"}}),
        ("query_string", f"{place}?jwt={token}", {}),
        ("cookies", place, {"additional_headers": {"Cookie": cookie}, "origin": url}),
    ]:
        with connect(path, **options) as socket:
            assert asked(socket) == {"name": "ada", "location": location}
    with connect(place, subprotocols=["bearer", token]) as socket:
        assert socket.subprotocol == "bearer"
        assert asked(socket) == {"name": "ada", "location": "websocket_protocol"}


def test_refusals_are_answers_of_http(serve, server):
    url = serve(server=server)
    login = httpx.post(f"{url}/login/ada")
    place = url.replace("http:", "ws:") + "/socket"
    cookie = {"Cookie": f"access_token_cookie={login.cookies['access_token_cookie']}"}
    for options, code in [
        ({}, "authorization_required"),
        ({"subprotocols": ["bearer", "a.b.c"]}, "token_invalid"),
        ({"subprotocols": ["bearer", login.json()["refresh"]]}, "token_type_wrong"),
        ({"subprotocols": ["bearer"]}, "header_invalid"),
        ({"additional_headers": cookie}, "csrf_failed"),
        ({"additional_headers": cookie, "origin": "https://evil.example"}, "csrf_failed"),
    ]:
        answer = refused(place, **options)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert json.loads(answer.body)["code"] == code


def test_a_signed_out_user_is_closed_with_1008(serve, server):
    url = serve(server=server)
    token = httpx.post(f"{url}/login/ada").json()["access"]
    place = url.replace("http:", "ws:") + "/socket"
    with connect(place, subprotocols=["bearer", token]) as socket:
        assert asked(socket)["name"] == "ada"
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.post(f"{url}/logout", headers=bearer).status_code == 200
        with pytest.raises(ConnectionClosed) as caught:
            asked(socket)
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "token_revoked")
    assert refused(place, subprotocols=["bearer", token]).status_code == 401
