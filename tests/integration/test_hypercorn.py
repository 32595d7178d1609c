"""The main job on real sockets: Hypercorn, and a Redis-protocol server that may fail."""

from __future__ import annotations

import statistics
import threading
import time

import httpx

from benchmarks.load import generate


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_every_location_over_the_wire(serve):
    url = serve()
    with httpx.Client(base_url=url) as client:
        assert client.get("/me").status_code == 401
        login = client.post("/login/alice")
        token = login.json()["access"]
        client.cookies.clear()
        assert client.get("/me", headers=bearer(token)).json() == {"name": "alice"}
        assert client.get("/me", params={"jwt": token}).json() == {"name": "alice"}
        assert client.post("/me", json={"access_token": token}).json() == {"name": "alice"}
        cookie = {"Cookie": f"access_token_cookie={token}"}
        assert client.get("/me", headers=cookie).json() == {"name": "alice"}
        assert client.post("/me", headers=cookie).json()["code"] == "csrf_failed"
        csrf = next(
            line.split(";")[0].split("=")[1]
            for line in login.headers.get_list("Set-Cookie")
            if line.startswith("csrf_access_token")
        )
        assert client.post("/me", headers={**cookie, "X-CSRF-TOKEN": csrf, "Origin": url}).status_code == 200
        assert (
            client.get("/me", headers=bearer(client.post("/login/deleted").json()["access"])).status_code
            == 401
        )


def test_bytes_over_the_wire(serve):
    url = serve()
    for value in (b"\xff", b"Bearer \xff\xfe", b"Bearer " + b"a" * 20_000):
        answer = httpx.get(f"{url}/me", headers=[(b"Authorization", value)])
        assert answer.status_code in (400, 401, 431)


def test_a_revocation_holds_in_every_worker(serve, redis_url):
    url = serve(workers=2, JWT_STORE_URI=f"{redis_url}?deadline=5")
    with httpx.Client(base_url=url) as client:
        token = client.post("/login/alice").json()["access"]
        client.cookies.clear()
        assert client.post("/logout", headers=bearer(token)).status_code == 200
    statuses = set()
    for _ in range(20):  # a connection each, so that both workers are asked
        statuses.add(httpx.get(f"{url}/me", headers=bearer(token)).status_code)
    assert statuses == {401}


CALLS = ("mget", "evalsha", "eval", "get", "exists", "hmget")


def sent(server):
    """How many commands the server was sent that read or change something."""
    stats = server.does("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in CALLS)


def test_commands_are_counted(serve, redis_server, tmp_path):
    url = serve(JWT_STORE_URI=f"{redis_server.url}?deadline=5&poll=3600")
    tokens = [httpx.post(f"{url}/login/user{number}").json()["access"] for number in range(20)]
    (tmp_path / "tokens").write_text("\n".join(tokens))
    # How many of 32 come together depends on who else has the processor: `benchmarks revocation` says it.
    for concurrency, most in ((1, 1), (32, 0.3)):
        before = sent(redis_server)
        load = generate(f"{url}/me", tmp_path / "tokens", concurrency, 1)
        assert load.requests > concurrency
        commands = sent(redis_server) - before
        assert commands > 0
        # What was asked when the time was over is not among the requests that were answered.
        assert commands - concurrency <= most * load.requests


def test_frozen_redis_is_503_within_the_deadline_and_nobody_else_waits(serve, redis_server, is_long):
    deadline = 0.25
    url = serve(JWT_STORE_URI=f"{redis_server.url}?deadline={deadline}")
    with httpx.Client(base_url=url) as client, httpx.Client(base_url=url) as other:
        token = client.post("/login/alice").json()["access"]
        client.cookies.clear()

        def open_view():
            started = time.perf_counter()
            assert other.get("/open").status_code == 200
            return time.perf_counter() - started

        def protected_view():
            started = time.perf_counter()
            answer = client.get("/me", headers=bearer(token))
            took.append(time.perf_counter() - started)
            answers.append((answer.status_code, answer.headers.get("Retry-After"), answer.json()["code"]))

        took, answers = [], []
        assert client.get("/me", headers=bearer(token)).status_code == 200
        before = statistics.median(open_view() for _ in range(30))
        redis_server.freeze()
        thread = threading.Thread(target=lambda: [protected_view() for _ in range(5)])
        thread.start()
        meanwhile = []
        while thread.is_alive():
            meanwhile.append(open_view())
        redis_server.thaw()
        assert set(answers) == {(503, "1", "store_unavailable")}
        assert meanwhile
        if is_long:
            assert took[0] < deadline + 0.05
            # Nobody waits for a server of which it is known that it does not answer.
            assert statistics.median(took[1:]) < deadline / 5
            assert len(meanwhile) > 20
            assert statistics.median(meanwhile) < 3 * before + 0.01
        thawed = time.perf_counter()
        while client.get("/me", headers=bearer(token)).status_code != 200:
            assert time.perf_counter() - thawed < (1 if is_long else 30)
