"""Keys from afar: fetched once for all, never waited for where they are known, and kept while they last."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import anyio
import anyio.lowlevel
import pytest

from async_jwt.adapters import _background_loop
from async_jwt.core import issuer_keys, issuer_registry
from async_jwt.core.concurrency import Completion, run_without_loop
from async_jwt.core.issuer_keys import IssuerKeys
from async_jwt.errors import IssuerUnavailableError, SignatureError
from async_jwt.issuers import Fetched, FetchError, Issuer, IssuerIdentity
from tests.harness.applications import NEEDS_QUART, however_it_runs, on_a_servers_loop, on_both_kinds
from tests.harness.providers import JWKS, OAUTH, OPENID, Provider

HOUR = 3600


def accepting(harness, provider, clock=time.time, **options):
    issuer = Issuer(provider.url, **{"audience": "api", **options})
    return harness({"JWT_SECRET_KEY": None}, issuers=[issuer], clock=clock)


@pytest.fixture(autouse=True)
def time_of_the_provider(clock):
    """Its tokens are made by the machine's clock, and the application's begins there."""
    clock.now = time.time()


async def outcome(h, token, **options):
    answer = await h.call(token=token, **options)
    return answer.status if answer.status == 200 else answer.code


async def settled(condition):
    """Wait for what happens in the background."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


LONG = 10 * 86_400


# -- rotation ------------------------------------------------------------------------------


@however_it_runs
@pytest.mark.asyncio
async def test_the_first_token_of_a_new_key_passes_in_the_same_request(harness, provider):
    h = accepting(harness, provider)
    assert await outcome(h, provider.token()) == 200
    provider.add("k2")
    assert await outcome(h, provider.token("k2")) == 200
    assert await outcome(h, provider.token("k1")) == 200
    assert provider.fetches == 2


@however_it_runs
@pytest.mark.asyncio
async def test_a_key_that_a_good_answer_dropped_is_dead_at_once(harness, provider, clock):
    h = accepting(harness, provider, clock)
    old = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, old) == 200
    provider.add("k2")
    provider.drop("k1")
    assert await outcome(h, old) == 200  # remembered: nobody has looked yet
    assert await outcome(h, provider.token("k2")) == 200
    assert await outcome(h, old) == "token_invalid"


@on_both_kinds
@pytest.mark.asyncio
async def test_ten_thousand_random_kids_cost_a_fetch_in_each_pause(harness, provider, clock):
    h = accepting(harness, provider, clock)
    known = provider.token()
    assert await outcome(h, known) == 200
    stranger = Provider()
    stranger.stop()
    stranger.url = provider.url
    for number in range(60):
        kid = f"random-{number}"
        assert await outcome(h, stranger.token("k1", header={"kid": kid})) == "token_invalid"
    assert provider.fetches == 2
    keys = sources(h)[0]
    for number in range(10_000):
        with pytest.raises(SignatureError):
            await keys.select("ES256", f"r{number}", clock, may_fetch=True)
    assert provider.fetches == 2
    provider.fail()
    for step in range(4):
        clock.now += 31
        for number in range(20):
            with pytest.raises(SignatureError):
                await keys.select("ES256", f"s{number}", clock, may_fetch=True)
        assert provider.fetches == 3 + step
        assert await outcome(h, known) == 200


def sources(h):
    return h.app.extensions["async_jwt"].registry.configured


@on_both_kinds
@pytest.mark.asyncio
async def test_no_fetch_where_none_is_due(harness, provider, clock):
    h = accepting(harness, provider, clock)
    assert await outcome(h, provider.token()) == 200
    stranger = Provider("RS256")
    stranger.stop()
    stranger.url = provider.url
    for claims in (
        {"aud": "shop"},
        {"exp": 1},
        {"sub": None},
        {"token_use": "id"},
        {"nbf": int(clock.now) + 900},
    ):
        assert await outcome(h, stranger.token(header={"kid": "unknown"}, **claims)) == "token_invalid"
    assert await outcome(h, stranger.token(header={"kid": "k1"})) == "token_invalid"  # of another family
    assert provider.fetches == 1


# -- freshness -----------------------------------------------------------------------------


@however_it_runs
@pytest.mark.asyncio
async def test_keys_are_refreshed_behind_requests(harness, provider, clock):
    provider.headers["Cache-Control"] = "public, max-age=3600"
    h = accepting(harness, provider, clock)
    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    clock.now += 0.79 * HOUR
    assert await outcome(h, token) == 200
    assert provider.fetches == 1
    clock.now += 0.07 * HOUR
    with provider.hanging():
        began = time.monotonic()
        assert await outcome(h, token) == 200
        assert time.monotonic() - began < 1
    await settled(lambda: provider.fetches == 2 and sources(h)[0]._flight.ended.is_over)
    for _ in range(3):
        assert await outcome(h, token) == 200
    assert provider.fetches == 2
    assert provider.asked.count(OPENID) == 1


@on_both_kinds
@pytest.mark.asyncio
async def test_idle_keys_are_looked_at_before_they_are_used_again(harness, provider, clock):
    h = accepting(harness, provider, clock)
    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    clock.now += 2 * HOUR
    provider.add("k2")
    provider.drop("k1")
    assert await outcome(h, token) == "token_invalid"


@however_it_runs
@pytest.mark.asyncio
async def test_down_for_hours_the_last_good_keys_last_to_their_bound(harness, provider, clock, caplog):
    h = accepting(harness, provider, clock)
    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    provider.fail(503)
    for hours in (1, 5, 12, 23):
        clock.now += HOUR * hours if hours == 1 else HOUR
        assert await outcome(h, token) == 200
    await settled(lambda: "the known keys stay in use" in caplog.text)
    clock.now = time.time() + 24 * HOUR + 650
    answer = await h.call(token=token)
    assert (answer.status, answer.code) == (503, "issuer_unavailable")
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert "its tokens get 503" in caplog.text
    provider.heal()
    clock.now += 31
    assert await outcome(h, token) == 200


@however_it_runs
@pytest.mark.asyncio
async def test_an_issuer_that_is_out_at_the_start(harness, provider, clock):
    provider.fail()
    h = accepting(harness, provider, clock)
    async with h.serving():
        answer = await h.call(token=provider.token())
        assert (answer.status, answer.code) == (503, "issuer_unavailable")
        for _ in range(20):
            assert await outcome(h, provider.token()) == "issuer_unavailable"
        assert len(provider.asked) <= 2
        provider.heal()
        assert await outcome(h, provider.token()) == "issuer_unavailable"
        clock.now += 6
        assert await outcome(h, provider.token()) == 200


@however_it_runs
@pytest.mark.asyncio
async def test_the_start_warms_and_waits_for_nothing(harness, provider):
    h = accepting(harness, provider)
    with provider.hanging():
        began = time.monotonic()
        async with h.serving():
            assert time.monotonic() - began < 2
            await settled(lambda: provider.asked == [OPENID])
    h = accepting(harness, provider)
    async with h.serving():
        await settled(lambda: len(sources(h)[0].keys) == 1)


# -- hanging issuers -----------------------------------------------------------------------


@however_it_runs
@pytest.mark.asyncio
async def test_a_hung_fetch_changes_nothing_for_known_keys(harness, provider):
    h = accepting(harness, provider)
    known = provider.token()
    assert await outcome(h, known) == 200
    with provider.hanging():
        strange = asyncio.create_task(outcome(h, provider.token(header={"kid": "unknown"})))
        await settled(lambda: provider.fetches == 2)
        for jti in range(10):
            assert await outcome(h, provider.token(jti=str(jti))) == 200
        assert not strange.done()
    assert await strange == "token_invalid"
    assert await outcome(h, known) == 200


@on_both_kinds
@pytest.mark.asyncio
async def test_a_flood_of_unknown_kids_holds_up_no_known_one(harness, provider, monkeypatch):
    monkeypatch.setattr(issuer_keys, "FETCH_LIMIT", 1.0)
    h = accepting(harness, provider)
    assert await outcome(h, provider.token()) == 200
    with provider.hanging():
        flood = [
            asyncio.create_task(outcome(h, provider.token(header={"kid": f"r{number}"})))
            for number in range(12)
        ]
        await settled(lambda: provider.fetches == 2)
        for number in range(5):
            assert await outcome(h, provider.token(jti=f"j{number}")) == 200
        if harness.__name__ == "FlaskSyncHarness":
            # Threads that wait are few.
            await settled(lambda: sum(task.done() for task in flood) >= 8)
        assert {await task for task in flood} == {"token_invalid"}
    assert provider.fetches == 2


@pytest.mark.asyncio
async def test_a_thousand_waiters_share_one_flight_and_the_first_may_go(provider):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    with provider.hanging():
        tasks = [
            asyncio.create_task(keys.select("ES256", "k1", time.time, may_fetch=True)) for _ in range(1000)
        ]
        await settled(lambda: provider.asked == [OPENID])
        tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert {key.kid for result in results[1:] for key in result[1]} == {results[1][1][0].kid}
    assert provider.asked == [OPENID, JWKS]


def _fetching():
    from async_jwt.issuers import HttpFetch

    return HttpFetch()


@pytest.mark.asyncio
async def test_two_event_loops_share_a_flight(provider):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    found = []

    def elsewhere():
        found.append(asyncio.run(keys.select("ES256", "k1", time.time, may_fetch=True)))

    with provider.hanging():
        task = asyncio.create_task(keys.select("ES256", "k1", time.time, may_fetch=True))
        await settled(lambda: provider.asked == [OPENID])
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.sleep(0.1)
    assert (await task)[1]
    await asyncio.to_thread(thread.join, 10)
    assert found[0][1] == (await task)[1]
    assert provider.fetches == 1


@pytest.mark.asyncio
async def test_a_flight_whose_event_loop_has_ended_is_replaced(provider, clock):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())

    async def abandoned():
        task = asyncio.create_task(keys.select("ES256", "k1", clock, may_fetch=True))
        await settled(lambda: provider.asked == [OPENID])
        task.cancel()

    with provider.hanging():
        await asyncio.to_thread(asyncio.run, abandoned())
    clock.now += 6
    assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("ends", ["well", "badly"])
async def test_a_flight_that_was_given_up_changes_nothing_when_it_ends(provider, clock, ends):
    gates = [asyncio.Event(), asyncio.Event()]
    answers = [FetchError("late") if ends == "badly" else _jwks(), _jwks(provider)]
    begun = []

    async def fetch(url):
        number = len(begun)
        begun.append(url)
        await gates[number].wait()
        if isinstance(answers[number], Exception):
            raise answers[number]
        return Fetched(answers[number])

    issuer = Issuer(provider.url, audience="api", jwks_uri="https://x.example/k")
    keys = IssuerKeys(issuer, fetch)
    first = asyncio.create_task(keys.select("ES256", "k1", clock, may_fetch=True))
    await settled(lambda: len(begun) == 1)
    clock.now += 60  # it hangs, by the clock
    second = asyncio.create_task(keys.select("ES256", "k1", clock, may_fetch=True))
    await settled(lambda: len(begun) == 2)
    gates[1].set()
    found = await second
    gates[0].set()
    assert await first == found
    assert keys.problem is None
    assert await keys.select("ES256", "k1", clock, may_fetch=True) == found


def _jwks(provider=None):
    return json.dumps({"keys": []} if provider is None else provider.jwks()).encode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_fork_fetches_for_itself(provider):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    wait = keys.select("ES256", "k1", time.time, may_fetch=True)
    with provider.hanging():
        parent = threading.Thread(target=lambda: asyncio.run(wait), daemon=True)
        parent.start()
        end = time.monotonic() + 5
        while provider.asked != [OPENID] and time.monotonic() < end:
            time.sleep(0.01)
        lost = keys._flight
        assert not lost.is_lost(time.time())
        lost.process = -1  # as in a child
        assert lost.is_lost(time.time())
    parent.join(5)
    assert asyncio.run(keys.select("ES256", "k1", time.time, may_fetch=True))[1]


FORKING = """
import asyncio, os, sys, time
from async_jwt.core.issuer_keys import IssuerKeys
from async_jwt.issuers import HttpFetch, Issuer

keys = IssuerKeys(Issuer(sys.argv[1], audience="api"), HttpFetch())

async def kids(*named):
    found = [await keys.select("ES256", kid, time.time, may_fetch=True) for kid in named]
    return sum(len(candidates) for _, candidates in found)

assert asyncio.run(kids("k1")) == 1
print("loaded", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    os._exit(asyncio.run(kids("k1", "k2")))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), asyncio.run(kids("k2", "k1")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_parent_and_child_of_a_fork_go_on(provider):
    """As under a server that loads the application before it forks its workers."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, provider.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "loaded\n"
        provider.add("k2")
        assert process.communicate("go on\n", timeout=60)[0] == "2 2\n"
    assert provider.fetches == 3


def test_trio_has_no_tasks_of_its_own_and_waits():
    import trio

    calls = []

    async def fetch(url):
        calls.append(url)
        await anyio.lowlevel.checkpoint()
        return Fetched(b'{"keys": []}')

    keys = IssuerKeys(Issuer("https://x.example", audience="api", jwks_uri="https://x.example/k"), fetch)

    async def main():
        with pytest.raises(SignatureError):
            await keys.select("ES256", "k1", time.time, may_fetch=True)
        over = Completion()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(over.wait, 5)
            over.end()

    trio.run(main)
    assert calls == ["https://x.example/k"]


def test_a_hung_refresh_holds_up_nobody_on_trio(provider, clock):
    import trio

    hanging, answers = [], [_jwks(provider)]

    async def fetch(url):
        if answers:
            return Fetched(answers.pop())
        hanging.append(url)
        await trio.sleep_forever()
        raise AssertionError

    keys = IssuerKeys(Issuer("https://x.example", audience="api", jwks_uri="https://x.example/k"), fetch)

    async def main():
        assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]
        clock.now += 590
        with trio.fail_after(1):
            assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]
        await settled(lambda: hanging)

    trio.run(main)


def test_a_plain_thread_that_cannot_start_another(provider, monkeypatch):
    """As where a process may have no more threads: the request is refused, and a later one tries again."""
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())

    def no_thread(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(IssuerUnavailableError):
        run_without_loop(keys.select("ES256", "k1", time.time, may_fetch=True), asyncio.run)
    monkeypatch.undo()
    assert keys.problem == "can't start new thread"
    _background_loop.background_loop()


def test_a_waiter_that_gave_up_is_not_released_twice():
    over = Completion()

    async def main():
        await over.wait(0.01)
        over.end()
        await asyncio.sleep(0.01)
        await over.wait(5)

    asyncio.run(main())
    ended = Completion()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(ended.wait(5))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()
    ended.end()


@pytest.mark.asyncio
async def test_a_clock_that_is_set_back_ends_no_pause_late(provider, clock):
    provider.fail()
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    with pytest.raises(IssuerUnavailableError):
        await keys.select("ES256", "k1", clock, may_fetch=True)
    provider.heal()
    clock.now -= HOUR
    assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]


# -- metadata ------------------------------------------------------------------------------


@on_both_kinds
@pytest.mark.asyncio
async def test_metadata_of_rfc_8414(harness, provider):
    provider.answers = {OPENID: 404, OAUTH: provider.metadata()}
    h = accepting(harness, provider)
    assert await outcome(h, provider.token()) == 200
    assert provider.asked == [OPENID, OAUTH, JWKS]


@on_both_kinds
@pytest.mark.asyncio
async def test_an_issuer_that_is_reached_elsewhere(harness, provider):
    outside = "https://login.example.com/realms/a"
    metadata = {"issuer": outside, "jwks_uri": f"{outside}/keys"}
    provider.answers = {f"/realms/a{OPENID}": metadata, "/realms/a/keys": provider.jwks()}
    issuer = Issuer(outside, audience="api", fetch_from=f"{provider.url}/realms/a")
    h = harness({"JWT_SECRET_KEY": None}, issuers=[issuer])
    assert await outcome(h, provider.token(iss=outside)) == 200
    assert await outcome(h, provider.token()) == "token_invalid"


@on_both_kinds
@pytest.mark.asyncio
async def test_metadata_that_drifts_leaves_the_last_good_in_use(
    harness, provider, clock, caplog, monkeypatch
):
    monkeypatch.setattr(issuer_keys, "_METADATA", 0.0)
    h = accepting(harness, provider, clock)
    assert await outcome(h, provider.token()) == 200
    provider.answers = {OPENID: {**provider.metadata(), "issuer": "https://evil.example"}}
    provider.add("k2")
    assert await outcome(h, provider.token("k2")) == 200
    assert "its last good metadata stays in use" in caplog.text
    assert "evil" in caplog.text


@on_both_kinds
@pytest.mark.asyncio
async def test_keys_that_have_moved_are_looked_for(harness, provider, clock):
    h = accepting(harness, provider, clock)
    assert await outcome(h, provider.token()) == 200
    moved = {**provider.metadata(), "jwks_uri": f"{provider.url}/moved"}
    provider.add("k2")
    provider.answers = {OPENID: moved, "/moved": provider.jwks(), JWKS: 404}
    assert await outcome(h, provider.token("k2")) == "token_invalid"
    clock.now += 31
    assert await outcome(h, provider.token("k2")) == 200


# -- bad documents -------------------------------------------------------------------------

BOMB = b"\x1f\x8b" + b"\0" * 100
BAD_METADATA = {
    "a redirect": ((302, {"Location": "http://127.0.0.1:1/"}, b""), "status 302"),
    "HTML": (b"<!doctype html><title>Log in</title>", "is not JSON"),
    "not an object": ([1], "not a JSON object"),
    "nesting": (b"[" * 100_000, "is not JSON"),
    "too large": (b" " * 1_048_577, "larger than"),
    "compressed": ((200, {"Content-Encoding": "gzip"}, BOMB), "compressed"),
    "another issuer": ({"issuer": "https://evil.example", "jwks_uri": "x"}, "names another issuer"),
    "no keys": ({}, "names no jwks_uri"),
    "a file": ({"jwks_uri": "file:///etc/passwd"}, "does not begin with https://"),
    "plain http elsewhere": ({"jwks_uri": "http://169.254.169.254/k"}, "does not begin with https://"),
    "no address": ({"jwks_uri": "https://[x"}, "no address"),
    "a number": ({"jwks_uri": 7}, "names no jwks_uri"),
    "without a host": ({"jwks_uri": "https:///k"}, "does not begin with https://"),
}


@on_both_kinds
@pytest.mark.asyncio
@pytest.mark.parametrize("what", BAD_METADATA)
async def test_bad_metadata_is_an_outage_and_no_500(harness, provider, caplog, what):
    given, problem = BAD_METADATA[what]
    provider.answers = {OPENID: {"issuer": provider.url, **given} if isinstance(given, dict) else given}
    h = accepting(harness, provider)
    answer = await h.call(token=provider.token())
    assert (answer.status, answer.code) == (503, "issuer_unavailable")
    assert problem in caplog.text
    assert provider.fetches == 0


BAD_KEYS = {
    "a redirect": ((301, {"Location": "/elsewhere"}, b""), "status 301"),
    "HTML": (b"<html>", "is not JSON"),
    "no list": ({"keys": {}}, "no list of keys"),
    "too many": ({"keys": [{}] * 10_000}, "10000 keys"),
    "too large": (b"{" + b" " * 1_048_577, "larger than"),
    "compressed": ((200, {"Content-Encoding": "br"}, BOMB), "compressed"),
    "a failure": (500, "status 500"),
}


@on_both_kinds
@pytest.mark.asyncio
@pytest.mark.parametrize("what", BAD_KEYS)
async def test_bad_key_documents_are_an_outage_and_no_500(harness, provider, caplog, what):
    given, problem = BAD_KEYS[what]
    provider.answers = {JWKS: given}
    h = accepting(harness, provider)
    answer = await h.call(token=provider.token())
    assert (answer.status, answer.code) == (503, "issuer_unavailable")
    assert problem in caplog.text


@on_both_kinds
@pytest.mark.asyncio
async def test_bad_answers_spoil_no_known_keys(harness, provider, clock):
    h = accepting(harness, provider, clock)
    token = provider.token()
    assert await outcome(h, token) == 200
    for given, _ in BAD_KEYS.values():
        provider.answers = {JWKS: given}
        clock.now += 31
        assert await outcome(h, provider.token(header={"kid": "unknown"})) == "token_invalid"
        assert await outcome(h, token) == 200


@on_both_kinds
@pytest.mark.asyncio
async def test_a_document_that_drips_is_given_up(harness, provider, monkeypatch, caplog):
    monkeypatch.setattr(issuer_keys, "FETCH_LIMIT", 0.3)
    h = accepting(harness, provider)
    with provider.hanging():
        assert await outcome(h, provider.token()) == "issuer_unavailable"
    assert "no answer within 0.3 seconds" in caplog.text


def _without(jwk, *names):
    return {name: value for name, value in jwk.items() if name not in names}


@on_both_kinds
@pytest.mark.asyncio
async def test_one_bad_key_spoils_nothing(harness, provider):
    good = provider.jwk("k1")
    provider.answers = {
        JWKS: {
            "keys": [
                None,
                7,
                {},
                {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
                {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"},
                {**provider.keys["k1"][1].as_dict(private=True), "kid": "private"},
                {**good, "kid": 7},
                {**good, "kid": "k1", "use": "enc"},
                {**good, "kid": "ops", "key_ops": ["sign"]},
                {**good, "kid": "ops", "key_ops": "verify"},
                {**good, "kid": "k1", "alg": ["ES256"]},
                {**good, "kid": "k1", "alg": "RS256"},
                {**good, "kid": "k1", "x": 7},
                {**good, "kid": "k1", "x": "AA"},
                {**good, "kid": "k1", "issuer": "https://evil.example"},
                {**good, "kid": "k1", "issuer": 7},
                {"kty": "RSA", "kid": "x5c", "x5c": ["AA"], "use": "sig"},
                good,
                good,
            ]
        }
    }
    h = accepting(harness, provider)
    assert await outcome(h, provider.token()) == 200
    for kid in ("pq", "private", "ops", "x5c"):
        assert await outcome(h, provider.token(header={"kid": kid})) == "token_invalid"
    assert sources(h)[0].left_out == 18 - 2


@on_both_kinds
@pytest.mark.asyncio
async def test_keys_without_alg_or_kid(harness, provider):
    provider.add("rsa", "RS256")
    bare = _without(provider.jwk("rsa"), "alg", "kid")
    provider.answers = {JWKS: {"keys": [bare, _without(provider.jwk("k1"), "alg")]}}
    h = accepting(harness, provider, algorithms=["RS256", "ES256"])
    for header in ({}, {"kid": None}, {"kid": "any"}):
        assert await outcome(h, provider.token("rsa", header=header)) == 200
    assert await outcome(h, provider.token("k1", header={"kid": None})) == 200
    assert await outcome(h, provider.token("k1")) == 200


@on_both_kinds
@pytest.mark.asyncio
async def test_two_keys_of_one_id(harness, provider):
    provider.add("k2")
    twin = {**provider.jwk("k2"), "kid": "k1"}
    provider.answers = {JWKS: {"keys": [provider.jwk("k1"), twin]}}
    h = accepting(harness, provider)
    assert await outcome(h, provider.token("k1")) == 200
    assert await outcome(h, provider.token("k2", header={"kid": "k1"})) == 200


@on_both_kinds
@pytest.mark.asyncio
async def test_too_many_keys_to_try_are_not_tried(harness, provider):
    for number in range(9):
        provider.add(f"n{number}")
    h = accepting(harness, provider)
    assert await outcome(h, provider.token("n1")) == 200
    assert await outcome(h, provider.token("n1", header={"kid": None})) == "token_invalid"


@on_both_kinds
@pytest.mark.asyncio
async def test_an_issuer_that_publishes_no_key(harness, provider, caplog, clock):
    h = accepting(harness, provider, clock)
    token = provider.token()
    assert await outcome(h, token) == 200
    provider.drop("k1")
    assert await outcome(h, provider.token(header={"kid": "unknown"})) == "token_invalid"
    assert await outcome(h, token) == "token_invalid"
    assert "publishes no key that can verify" in caplog.text


@pytest.mark.asyncio
async def test_what_an_own_fetch_raises_is_an_outage(caplog):
    errors = [LookupError("https://user:password@x"), FetchError("it is full"), TimeoutError()]

    async def fetch(url):
        raise answers.pop(0)

    for address in (None, "https://x.example/k"):
        answers = [*errors]
        issuer = Issuer("https://x.example", audience="api", jwks_uri=address)
        for _ in errors:
            with pytest.raises(IssuerUnavailableError):
                await IssuerKeys(issuer, fetch).select("ES256", "k", time.time, may_fetch=True)
    assert "LookupError" in caplog.text
    assert "it is full" in caplog.text
    assert "password" not in caplog.text


# -- issuers that a loader names -----------------------------------------------------------


@on_a_servers_loop
@NEEDS_QUART
@pytest.mark.asyncio
async def test_ten_thousand_made_up_issuers(harness, provider, clock):
    h = harness({"JWT_SECRET_KEY": None}, clock=clock)
    asked, running, most = [], [0], [0]

    @h.jwt.issuer_loader
    async def tenant(iss):
        asked.append(iss)
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.001)
        running[0] -= 1
        return Issuer(iss, audience="api", allow_private=True) if iss == provider.url else None

    assert await outcome(h, provider.token()) == 200
    made_up = [provider.token(iss=f"https://{number}.example") for number in range(300)]
    answers = asyncio.gather(*(outcome(h, token) for token in made_up))
    known = await outcome(h, provider.token(jti="2"))
    assert known == 200
    assert {*(await answers)} == {"token_invalid"}
    assert most[0] <= 8
    registry = h.app.extensions["async_jwt"].registry
    for number in range(10_000):
        registry._take(f"https://n{number}.example", None, clock())
    assert len(registry._missed) <= 1000
    count = len(asked)
    assert await outcome(h, provider.token(iss="https://n9999.example")) == "token_invalid"
    assert len(asked) == count
    clock.now += 31
    assert await outcome(h, provider.token(iss="https://n9999.example")) == "token_invalid"
    assert len(asked) == count + 1


@on_a_servers_loop
@NEEDS_QUART
@pytest.mark.asyncio
async def test_known_issuers_wait_for_no_loader_that_hangs(harness, provider, clock, monkeypatch):
    monkeypatch.setattr(issuer_registry, "_PATIENCE", 0.2)
    h = harness({"JWT_SECRET_KEY": None}, clock=clock)
    open_ = asyncio.Event()

    @h.jwt.issuer_loader
    async def tenant(iss):
        if iss != provider.url:
            await open_.wait()
            return None
        return Issuer(iss, audience="api", allow_private=True)

    assert await outcome(h, provider.token()) == 200
    hanging = [asyncio.create_task(outcome(h, provider.token(iss=f"https://{n}.example"))) for n in range(8)]
    same = asyncio.create_task(outcome(h, provider.token(iss="https://3.example")))
    await asyncio.sleep(0.05)
    answer = await h.call(token=provider.token(iss="https://9.example"))
    assert (answer.status, answer.code) == (503, "issuer_unavailable")
    assert await outcome(h, provider.token(jti="2")) == 200
    assert await same == "issuer_unavailable"
    open_.set()
    assert {await task for task in hanging} == {"token_invalid"}


@however_it_runs
@pytest.mark.asyncio
async def test_a_tenant_that_is_gone_is_gone_within_a_minute(harness, provider, clock, caplog):
    h = harness({"JWT_SECRET_KEY": None}, clock=clock)
    answers = [Issuer(provider.url, audience="api", allow_private=True)]
    asked = []

    @h.jwt.issuer_loader
    async def tenant(iss):
        asked.append(iss)
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    clock.now += 61
    assert await outcome(h, token) == 200  # asked again behind the request
    registry = h.app.extensions["async_jwt"].registry
    await settled(lambda: registry._named[provider.url].since == clock.now)  # and was answered
    assert len(asked) == 2
    assert await outcome(h, token) == 200
    answers.append(LookupError("the database is down"))
    clock.now += 61
    assert await outcome(h, token) == 200
    await settled(lambda: "issuer_loader failed" in caplog.text)
    assert await outcome(h, token) == 200
    answers.append(None)
    clock.now += 61
    await outcome(h, token)
    await settled(lambda: len(asked) == 4)
    await settled(lambda: registry.known(provider.url) is None)
    assert await outcome(h, token) == "token_invalid"
    assert provider.fetches == 1


@on_both_kinds
@pytest.mark.asyncio
async def test_a_tenant_that_changes_its_audience(harness, provider, clock):
    h = harness({"JWT_SECRET_KEY": None}, clock=clock)
    audience = ["api"]
    h.jwt.issuer_loader(lambda iss: Issuer(iss, audience=audience, allow_private=True))
    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    audience[0] = "others"
    clock.now += 61
    await outcome(h, token)
    registry = h.app.extensions["async_jwt"].registry
    await settled(lambda: registry.known(provider.url).issuer.audience == {"others"})
    assert await outcome(h, token) == "audience_invalid"


@on_both_kinds
@pytest.mark.asyncio
async def test_a_loader_that_fails_for_a_day_names_nobody(harness, provider, clock):
    h = harness({"JWT_SECRET_KEY": None}, clock=clock)
    answer = [Issuer(provider.url, audience="api", allow_private=True)]
    h.jwt.issuer_loader(lambda iss: answer[0])
    token = provider.token(exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    answer[0] = None
    clock.now += 25 * HOUR
    assert await outcome(h, token) == "token_invalid"


@pytest.mark.asyncio
async def test_the_issuers_of_a_loader_are_bounded(clock):
    registry = issuer_registry.IssuerRegistry()

    async def ask(url):
        return Issuer(url, audience="api", jwks_uri="https://x.example/k")

    used = await registry.find("https://used.example", ask, clock)
    registry.verified(used)
    found = [await registry.find(f"https://{n}.example", ask, clock) for n in range(200)]
    assert len(registry._named) == 100
    assert registry.known("https://used.example") is used
    assert await registry.find("https://199.example", ask, clock) is found[199]
    assert sum(registry.known(f"https://{n}.example") is not None for n in range(200)) == 99


@pytest.mark.asyncio
async def test_issuers_that_are_forgotten_keep_their_pause(clock, monkeypatch):
    monkeypatch.setattr(issuer_registry, "_MOST_NAMED", 1)
    registry = issuer_registry.IssuerRegistry()
    fetched = []

    async def fetch(url):
        fetched.append(url)
        raise FetchError("it is out")

    async def ask(url):
        return Issuer(url, audience="api", fetch=fetch)

    for _ in range(3):
        for number in range(4):
            source = await registry.find(f"https://{number}.example", ask, clock)
            with pytest.raises(IssuerUnavailableError):
                await source.select("ES256", "k", clock, may_fetch=True)
    assert len(fetched) == 4
    clock.now += 31
    source = await registry.find("https://0.example", ask, clock)
    with pytest.raises(IssuerUnavailableError):
        await source.select("ES256", "k", clock, may_fetch=True)
    assert len(fetched) == 5


@pytest.mark.asyncio
async def test_few_issuers_of_a_loader_are_fetched_at_once(clock):
    registry = issuer_registry.IssuerRegistry()
    open_, fetching = asyncio.Event(), []

    async def fetch(url):
        fetching.append(url)
        await open_.wait()
        return Fetched(b'{"keys": []}')

    async def ask(url):
        return Issuer(url, audience="api", jwks_uri=f"{url}/k", fetch=fetch)

    async def use(number):
        source = await registry.find(f"https://{number}.example", ask, clock)
        return await source.select("ES256", "k", clock, may_fetch=True)

    tasks = [asyncio.create_task(use(number)) for number in range(50)]
    await settled(lambda: sum(task.done() for task in tasks) == 42)
    assert len(fetching) == 8
    open_.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = [type(result).__name__ for result in results]
    assert (kinds.count("IssuerUnavailableError"), kinds.count("SignatureError")) == (42, 8)
    with pytest.raises(SignatureError):
        await use(99)


def test_places_come_back(monkeypatch):
    slots = issuer_keys.Slots(1)
    assert slots.take("a")
    assert not slots.take("b")
    slots.give_back("b")
    assert not slots.take("b")
    slots.give_back("a")
    slots.give_back("a")
    assert slots.take("b")
    assert not slots.take("c")
    slots._process = -1  # as in a child
    assert slots.take("c")
    assert not slots.take("d")
    monkeypatch.setattr(issuer_keys, "_LONGEST_HELD", 0.0)  # as after a while
    assert slots.take("d")


@pytest.mark.asyncio
async def test_a_fork_loses_no_place_to_ask(clock):
    registry = issuer_registry.IssuerRegistry()
    registry._asked["https://x.example"] = lost = issuer_registry._Asked()
    assert not lost.is_lost
    lost.process = -1

    async def ask(url):
        return Issuer(url, audience="api", jwks_uri="https://x.example/k")

    assert (await registry.find("https://x.example", ask, clock)).issuer.url == "https://x.example"


@pytest.mark.asyncio
async def test_a_plain_thread_that_cannot_ask_again(clock, caplog, monkeypatch):
    registry = issuer_registry.IssuerRegistry()

    async def ask(url):
        return Issuer(url, audience="api", jwks_uri="https://x.example/k")

    source = await registry.find("https://x.example", ask, clock)

    async def no_thread(work):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(issuer_registry, "in_background", no_thread)
    clock.now += 61
    assert await registry.find("https://x.example", ask, clock) is source
    assert "can't start new thread" in caplog.text


@pytest.mark.asyncio
async def test_a_loader_is_waited_for_after_a_long_time(clock):
    registry = issuer_registry.IssuerRegistry()
    answers = [Issuer("https://x.example", audience="api", jwks_uri="https://x.example/k")]

    async def ask(url):
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    source = await registry.find("https://x.example", ask, clock)
    clock.now += HOUR
    answers.append(LookupError("the database is down"))
    assert await registry.find("https://x.example", ask, clock) is source
    clock.now += HOUR
    answers.append(None)
    assert await registry.find("https://x.example", ask, clock) is None
    with pytest.raises(SignatureError):
        await source.select("ES256", "k", clock, may_fetch=True)


@pytest.mark.asyncio
async def test_two_ask_once_about_the_same_issuer(clock, monkeypatch):
    registry = issuer_registry.IssuerRegistry()
    asked, open_ = [], asyncio.Event()

    async def ask(url):
        asked.append(url)
        await open_.wait()
        known = url == "https://known.example"
        return Issuer(url, audience="api", jwks_uri="https://x.example/k") if known else None

    urls = ["https://known.example", "https://unknown.example"] * 3
    tasks = [asyncio.create_task(registry.find(url, ask, clock)) for url in urls]
    await settled(lambda: len(asked) == 2)
    await asyncio.sleep(0)
    open_.set()
    found = await asyncio.gather(*tasks)
    assert len(asked) == 2
    assert {source and source.issuer.url for source in found} == {"https://known.example", None}
    open_.clear()
    waiting = [asyncio.create_task(registry.find(f"https://{n}.example", ask, clock)) for n in range(8)]
    await settled(lambda: len(asked) == 10)
    for patience in (0.05, 0.0):
        monkeypatch.setattr(issuer_registry, "_PATIENCE", patience)
        with pytest.raises(IssuerUnavailableError, match="busy"):
            await registry.find("https://9.example", ask, clock)
    open_.set()
    await asyncio.gather(*waiting)


# -- what else may go wrong ----------------------------------------------------------------


@on_both_kinds
@pytest.mark.asyncio
async def test_keys_without_ids_are_rotated(harness, provider, clock):
    provider.answers = {JWKS: {"keys": [_without(provider.jwk("k1"), "kid")]}}
    h = accepting(harness, provider, clock)
    assert await outcome(h, provider.token(header={"kid": None})) == 200
    provider.add("k2")
    for kid in (None, "k2"):
        clock.now += 31
        provider.answers = {JWKS: {"keys": [_without(provider.jwk("k2"), *([] if kid else ["kid"]))]}}
        assert await outcome(h, provider.token("k2", header={"kid": kid})) == 200


@pytest.mark.asyncio
async def test_a_clock_that_was_ahead_keeps_no_key_for_long(provider, clock):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    real = clock.now
    clock.now += 365 * 86_400
    assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]
    clock.now = real
    provider.add("k2")
    provider.drop("k1")
    await keys.tend(clock)
    await settled(lambda: provider.fetches == 2 and keys._flight.ended.is_over)
    with pytest.raises(SignatureError):
        await keys.select("ES256", "k1", clock, may_fetch=True)


@on_both_kinds
@pytest.mark.asyncio
async def test_a_remembered_token_is_looked_at_when_the_clock_was_ahead(harness, provider, clock):
    h = accepting(harness, provider, clock)
    real = clock.now
    clock.now += 365 * 86_400
    token = provider.token(iat=int(real), exp=int(clock.now) + LONG)
    assert await outcome(h, token) == 200
    clock.now = real
    provider.add("k2")
    provider.drop("k1")
    await outcome(h, token)
    await settled(lambda: provider.fetches == 2 and sources(h)[0]._flight.ended.is_over)
    assert await outcome(h, token) == "token_invalid"


@pytest.mark.asyncio
@pytest.mark.parametrize("hangs", ["metadata", "keys", "both, with an error of its own"])
async def test_an_address_that_hangs_hides_no_new_one(clock, hangs, monkeypatch, provider):
    monkeypatch.setattr(issuer_keys, "FETCH_LIMIT", 1.0)
    state = {"hangs": "", "keys": "https://x.example/old"}

    async def fetch(url):
        if "error" in state["hangs"]:
            raise OSError("no route")
        if url.endswith("openid-configuration"):
            if state["hangs"] == "metadata":
                await anyio.sleep(5)
            return Fetched(json.dumps({"issuer": "https://x.example", "jwks_uri": state["keys"]}).encode())
        if url == "https://x.example/old" and state["hangs"] == "keys":
            await anyio.sleep(5)
        return Fetched(_jwks(provider))

    keys = IssuerKeys(Issuer("https://x.example", audience="api"), fetch)
    assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]
    provider.add("k2")
    state["hangs"] = hangs
    if hangs == "metadata":
        keys._metadata_until = 0.0
        assert (await keys.select("ES256", "k2", clock, may_fetch=True))[1]
        return
    with pytest.raises(SignatureError):
        await keys.select("ES256", "k2", clock, may_fetch=True)
    state.update(keys="https://x.example/new", hangs="" if "error" in hangs else "keys")
    clock.now += 31
    assert (await keys.select("ES256", "k2", clock, may_fetch=True))[1]


@pytest.mark.asyncio
async def test_a_flight_that_is_interrupted_begins_no_pause(clock, provider):
    calls, never = [], asyncio.Event()

    async def fetch(url):
        calls.append(url)
        if len(calls) == 1:
            await never.wait()
        return Fetched(_jwks(provider))

    keys = IssuerKeys(Issuer("https://x.example", audience="api", jwks_uri="https://x.example/k"), fetch)

    def elsewhere():
        async def begin():
            await keys.warm(clock)
            await settled(lambda: calls)

        asyncio.run(begin())  # its end cancels the flight

    waiting = asyncio.create_task(asyncio.to_thread(elsewhere))
    await settled(lambda: calls)
    assert (await keys.select("ES256", "k1", clock, may_fetch=True))[1]
    await waiting
    assert len(calls) == 2


@pytest.mark.asyncio
async def test_an_issuer_that_is_removed_while_it_is_fetched(clock, provider):
    open_ = asyncio.Event()

    async def fetch(url):
        await open_.wait()
        return Fetched(_jwks(provider))

    keys = IssuerKeys(Issuer("https://x.example", audience="api", jwks_uri="https://x.example/k"), fetch)
    waiting = asyncio.create_task(keys.select("ES256", "k1", clock, may_fetch=True))
    await settled(lambda: keys._flight is not None)
    keys.end()
    open_.set()
    with pytest.raises(SignatureError):
        await waiting


@pytest.mark.asyncio
async def test_flights_that_are_interrupted_again_and_again(clock, provider, monkeypatch):
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    tries = []

    async def interrupted(*_, **__):
        tries.append(1)
        return False

    monkeypatch.setattr(keys, "_fetched", interrupted)
    with pytest.raises(IssuerUnavailableError):
        await keys.select("ES256", "k1", clock, may_fetch=True)
    assert len(tries) == 3


@on_both_kinds
@pytest.mark.asyncio
async def test_keys_that_are_gone_when_one_looks_again(harness, provider, clock):
    provider.answers = {JWKS: {"keys": [_without(provider.jwk("k1"), "kid")]}}
    h = accepting(harness, provider, clock)
    assert await outcome(h, provider.token(header={"kid": None})) == 200
    provider.add("k2")
    provider.add("rsa", "RS256")
    provider.answers = {JWKS: {"keys": [provider.jwk("rsa")]}}
    assert await outcome(h, provider.token("k2", header={"kid": None})) == "token_invalid"


@pytest.mark.asyncio
async def test_threads_that_wait_are_few(provider, clock):
    """Of requests that hold a thread, four wait to the end; the others are answered soon."""
    keys = IssuerKeys(Issuer(provider.url, audience="api"), _fetching())
    waits = []

    def ask():
        began = time.monotonic()
        with contextlib.suppress(IssuerUnavailableError):
            run_without_loop(keys.select("ES256", "k1", clock, may_fetch=True), asyncio.run)
        waits.append(time.monotonic() - began)

    with provider.hanging():
        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        await settled(lambda: len(waits) == 8)
        assert max(waits) < 3
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
    assert len(waits) == 12


# -- a store that loses what it knows ------------------------------------------------------


@on_both_kinds
@pytest.mark.asyncio
async def test_a_data_loss_ends_tokens_issued_before_it(harness, provider, redis_server):
    config = {"JWT_SECRET_KEY": None, "JWT_STORE_URI": f"{redis_server.url}?deadline=5"}
    h = harness(config, issuers=[Issuer(provider.url, audience="api")])
    now = int(time.time())
    try:
        token = provider.token(iat=now - 60)
        assert await outcome(h, token) == 200
        await h.jwt.revoke_user(IssuerIdentity("u-2", issuer=provider.url))
        redis_server.does("FLUSHALL")
        assert await outcome(h, token) == "token_revoked"
        assert await outcome(h, provider.token(iat=now + 25, jti="t-2")) == 200
    finally:
        await asyncio.to_thread(h.end)
