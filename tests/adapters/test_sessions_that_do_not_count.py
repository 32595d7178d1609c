"""Sessions of somebody else who acts as a user: the limit neither counts nor ends them."""

from __future__ import annotations

import pytest

from tests.harness.applications import however_it_runs, on_each_loop
from tests.harness.rotation import rotate, rotating

pytestmark = pytest.mark.asyncio

ACTOR = {"sub": "support:7", "iss": "https://desk.example"}


@pytest.fixture
def app(make_app):
    return rotating(make_app({"JWT_MAX_SESSIONS": 2}))


async def sids(app, identity="alice"):
    return [session.sid for session in (await app.jwt.list_sessions(identity)).sessions]


async def alive(app, *pairs):
    return [(await app.call(token=pair.access_token)).status == 200 for pair in pairs]


@however_it_runs
@pytest.mark.parametrize("how", [{"counts": False}, {"additional_claims": {"act": ACTOR}}])
async def test_somebody_who_acts_as_a_user_signs_nobody_out(app, how):
    own = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    others = [await app.jwt.create_token_pair("alice", **how) for _ in range(3)]
    assert await alive(app, *own, *others) == [True] * 5
    new = await app.jwt.create_token_pair("alice")
    assert await alive(app, *own, *others, new) == [False, *[True] * 5]
    assert await sids(app) == [new.sid, *(pair.sid for pair in reversed(others)), own[1].sid]


@on_each_loop
async def test_it_does_not_count_for_as_long_as_it_lasts(app):
    """After each refresh, and however often it is refreshed."""
    other = await app.jwt.create_token_pair("alice", additional_claims={"act": ACTOR})
    refresh = other.refresh_token
    own = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    for _ in range(3):
        refresh = (await rotate(app, refresh))["refresh"]
        assert await alive(app, *own) == [True, True]
    newer = await app.jwt.create_token_pair("alice")
    assert await alive(app, *own, newer) == [False, True, True]
    answer = await rotate(app, refresh)
    me = await app.call(token=answer["access"])
    assert (me.status, me.json["claims"]["act"]) == (200, ACTOR)


@on_each_loop
async def test_a_list_shows_the_actor(app):
    @app.api.jwt_required()
    async def devices():
        page = await app.api.list_sessions()
        return {"actors": [session.actor for session in page.sessions]}

    app.view("/devices", devices)
    own = await app.jwt.create_token_pair("alice", additional_claims={"role": "user"})
    await app.jwt.create_token_pair("alice", additional_claims={"act": ACTOR})
    await app.jwt.create_token_pair("alice", additional_claims={"act": "support"}, counts=True)
    await app.jwt.create_token_pair("alice", counts=False)
    answer = await app.call("/devices", token=own.access_token)
    assert answer.json == {"actors": [None, "support", ACTOR, None]}


@on_each_loop
async def test_all_else_is_as_with_any_session(app):
    @app.api.jwt_required()
    async def elsewhere():
        await app.api.revoke_user(keep_current=True)
        return {}

    app.view("/elsewhere", elsewhere, methods=["POST"])

    other = await app.jwt.create_token_pair("alice", counts=False)
    own = await app.jwt.create_token_pair("alice")
    assert await app.jwt.revoke_session(other.sid) is True
    assert await alive(app, own, other) == [True, False]
    again = await app.jwt.create_token_pair("alice", counts=False)
    await app.jwt.revoke_user("alice")
    assert await alive(app, own, again) == [False, False]
    assert await sids(app) == []
    kept = await app.jwt.create_token_pair("alice", counts=False)
    gone = await app.jwt.create_token_pair("alice")
    assert (await app.call("/elsewhere", method="POST", token=kept.access_token)).status == 200
    assert await alive(app, kept, gone) == [True, False]
    assert await sids(app) == [kept.sid]
    await rotate(app, kept.refresh_token)


@on_each_loop
@pytest.mark.parametrize("counts", [None, 0, "no"])
async def test_what_is_no_answer_is_refused(app, counts):
    with pytest.raises(ValueError, match="True or False"):
        await app.jwt.create_token_pair("alice", counts=counts)
