"""What the benchmarks say of what they measured, and the guard that counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from async_jwt.core import authenticate as pipeline
from benchmarks import asgi, budgets, counts, least, quart_request, report
from benchmarks.tokens import bearers, cookies, token

pytestmark = pytest.mark.asyncio

HERE = Path(counts.__file__).parent


async def test_the_same_request_counts_the_same():
    send = asgi.requests(quart_request.our_app(), "/me", bearers([token()]))
    first, second = await counts.count(send), await counts.count(send)
    # Of Python 3.13's own code a few instructions come once.
    assert (first.instructions, first.calls) == (pytest.approx(second.instructions, rel=1e-3), second.calls)
    bare = asgi.requests(quart_request.bare_app(), "/bare", bearers([token()]))
    added = await counts.count(send, await counts.count(bare))
    assert 300 < added.instructions < 3000
    assert 20 < added.calls < 300


async def test_more_work_counts_more(monkeypatch):
    send = asgi.requests(quart_request.our_app(), "/me", bearers([token()]))
    before = await counts.count(send)
    find = pipeline.find

    def find_twice(*args):
        find(*args)
        return find(*args)

    monkeypatch.setattr(pipeline, "find", find_twice)
    after = await counts.count(send)
    assert after.instructions > before.instructions * counts.ALLOWED
    assert after.calls > before.calls * counts.ALLOWED


@pytest.mark.parametrize(("more", "said"), [(0.9, 1), (1.0, 0), (1.5, 0)])
async def test_the_guard_fails_where_more_is_counted_than_was_kept(more, said, monkeypatch, tmp_path, capsys):
    found = {"Quart, new token": counts.Count(1000.0, 100.0)}
    kept = tmp_path / "counts.json"
    monkeypatch.setattr(counts, "KEPT", kept)
    monkeypatch.setattr(counts, "counts_now", lambda: found)
    assert counts.main([]) == 0
    assert "Nothing was counted" in capsys.readouterr().out
    assert counts.main(["--update"]) == 0
    version = next(iter(json.loads(kept.read_text())))
    earlier = {"instructions": 1000.0 * more, "calls": 100.0}
    kept.write_text(json.dumps({version: {"Quart, new token": earlier}}))
    capsys.readouterr()
    assert counts.main([]) == said
    assert ("MORE" in capsys.readouterr().out) == bool(said)


async def test_what_was_counted_is_kept_for_this_code():
    kept = json.loads((HERE / "counts.json").read_text())
    assert "Quart, new token" in kept["3.11"]


async def test_a_case_is_answered_and_a_wrong_one_stops_the_benchmark():
    await asgi.requests(quart_request.our_app(), "/me", bearers([token()]))(2)
    in_cookies = cookies("access_token_cookie", 2)
    app = quart_request.our_app(JWT_TOKEN_LOCATION=["cookies"])
    await asgi.requests(app, "/me", in_cookies, "POST")(2)
    with pytest.raises(RuntimeError, match="answered 401"):
        await asgi.requests(quart_request.our_app(), "/me", bearers(["no token"]))(1)


async def test_the_least_still_verifies():
    assert least.verify(token())["sub"] == "alice"
    with pytest.raises(Exception):  # noqa: B017, PT011  # whichever
        least.verify(token()[:-4] + "AAAA")
    with pytest.raises(ValueError, match="expired"):
        least.verify(token(exp=1))


async def test_results_are_kept_as_a_table_and_as_data(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(budgets, "RESULTS", tmp_path)
    rows = [
        report.Row("HS256", "ours, first-seen", 9.5, "us", "PyJWT, decode", 0.19, 0.18, 0.21),
        report.Row("HS256", "ours, repeated", 1.5, "us", "PyJWT, decode", 0.03, 0.02, 0.04),
        report.Row("Memory", "each", 1234.5, "bytes"),
    ]
    text = report.keep("codec", "About it.", rows, {"machine": "a machine", "Python": "3"})
    assert "| ours, first-seen | 9.5 us | PyJWT, decode | 0.190 | 0.180 to 0.210 |" in text
    assert "| each | 1,234 bytes |" in text
    assert (tmp_path / "codec.md").read_text() == text
    assert json.loads((tmp_path / "codec.json").read_text())["rows"][0]["ratio"] == 0.19
    table = budgets.keep_budgets()
    assert "| at most 0.20 | 0.190 | 0.180 to 0.210 |  |" in table
    assert "| at most 0.02 | 0.030 | 0.020 to 0.040 | missed |" in table
