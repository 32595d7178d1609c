"""What a mirror holds: against a model of it, one by one and as a filter."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of
from async_jwt.stores.redis.layout import Bucket
from async_jwt.stores.redis.picture import Entry, Picture

EPOCH = "epoch"
NAMES = st.text(max_size=3)
FOR_EVER = ""


def bucket(count: int, generation: int = 0, epoch: str = EPOCH) -> Bucket:
    return Bucket(epoch, generation, -1.0, count, str(count), ())


def ref(identity: str, jti: str | None = None, sid: str | None = None, user: int = 0) -> TokenRef:
    return TokenRef(identity, jti, sid, f"{EPOCH}.0.{user}", 0.0, None)


def told(identity: str, kind: str, name: str, lives: str = FOR_EVER, user: str = "") -> Entry:
    return Entry(bucket_of(identity), kind, name, lives, user, b"")


def drawn(most: int, expected: int = 0) -> Picture:
    picture = Picture(most, expected)
    for number in range(256):
        picture.applied[f"{number:02x}"] = bucket(0)
    return picture


REVOCATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("j"), NAMES, NAMES),
        st.tuples(st.just("s"), NAMES, NAMES),
        st.tuples(st.just("u"), NAMES, st.integers(1, 9).map(str)),
    ),
    max_size=30,
)


@given(REVOCATIONS, st.sampled_from([0, 1, 5, 100]), st.booleans())
def test_what_is_revoked_is_never_said_to_count(revocations, most, from_feed):
    """One by one it says what is; as a filter, what surely is not revoked, and is silent on all that is."""
    picture = drawn(max(1, most))
    tokens, sessions, users = set(), set(), {}
    for kind, who, what in revocations:
        at = picture.applied[bucket_of(who)]
        value = f"{what} 1.0 0 0 " if kind == "u" else ""
        name = who if kind == "u" else what
        if from_feed:
            picture.apply(told(who, kind, name, user=value), bucket(at.revocations + 1), 0.0)
        else:
            picture.add(kind + name, value or -1, 0.0)
        {"j": tokens, "s": sessions}.get(kind, set()).add(what)
        if kind == "u":
            users[who] = max(users.get(who, 0), int(what))
    is_filter = len({*tokens}) + len({*sessions}) + len(users) > max(1, most)
    for _, who, what in [*revocations, ("", "nobody", "nothing")]:
        for made in (0, 5, 9):
            for token in (ref(who, what, None, made), ref(who, None, what, made), ref(who, "x!", "y!", made)):
                dead = token.jti in tokens or token.sid in sessions or made < users.get(who, 0)
                said = picture.says(token, bucket(0))
                ahead = made > users.get(who, 0)  # a later state than was heard: that has to be asked
                if is_filter:
                    assert said is not True or not (dead or ahead)
                elif token.jti in tokens or token.sid in sessions:
                    assert said is False
                else:
                    assert said is (None if ahead else not dead)


def test_what_does_not_follow_is_not_taken():
    picture = drawn(10)
    place = bucket_of("alice")
    assert picture.apply(told("alice", "j", "one"), bucket(1), 0.0)
    assert not picture.apply(told("alice", "j", "three"), bucket(3), 0.0)
    assert not picture.apply(told("alice", "j", "other"), bucket(2, epoch="other"), 0.0)
    assert picture.apply(told("alice", "j", "again"), bucket(1), 0.0)
    assert picture.applied[place] == bucket(1)
    assert [picture.says(ref("alice", name), bucket(1)) for name in ("one", "three", "other", "again")] == [
        False,
        *[True] * 3,
    ]
    del picture.applied[place]
    assert not picture.apply(told("alice", "j", "two"), bucket(2), 0.0)


def test_entries_are_dropped_in_their_time():
    picture = drawn(10_000)
    for number in range(6000):
        picture.add(f"j{number}", 90_000.0, 0.0)
    picture.add("jever", -1, 0.0)
    picture.add("j0", 600_000.0, 0.0)
    picture.add("j1", 10.0, 0.0)
    picture.add("jgone", -2, 0.0)
    picture.add("ualice", "1 1.0 0 0 ", 0.0)
    assert len(picture) == 6002
    picture.sweep(60.0)
    assert len(picture) == 6002
    picture.sweep(200.0)
    assert 1000 <= len(picture) < 6002
    picture.sweep(200.0)
    assert len(picture) == 3
    assert picture.says(ref("x", "j0"[1:]), bucket(0)) is False
    picture.sweep(10_000.0)
    assert len(picture) == 2
    assert picture.says(ref("x", "ever"), bucket(0)) is False


def test_a_filter_says_when_it_is_full():
    picture = drawn(5, expected=20)
    for number in range(40):
        picture.add(f"j{number}", -1, 0.0)
    assert not picture.is_full
    picture.add("j40", -1, 0.0)
    assert picture.is_full
    assert len(picture) == 41
    picture.sweep(1e9)
    assert all(picture.says(ref("x", str(number)), bucket(0)) is None for number in range(41))
    assert picture.says(ref("x", "nothing"), bucket(0)) is True


def test_what_somebody_else_wrote_at_a_user_has_to_be_asked_for():
    picture = drawn(5)
    picture.add("ualice", "junk", 0.0)
    assert picture.says(ref("alice", "j"), bucket(0)) is None
    picture.add("ualice", "3 1.0 0 0 ", 0.0)
    assert picture.says(ref("alice", "j"), bucket(0)) is False
    picture.add("ualice", "2 1.0 0 0 ", 0.0)
    assert picture.says(ref("alice", "j", user=2), bucket(0)) is False


def test_tokens_of_no_store_have_to_be_asked_for():
    picture = drawn(5)
    assert picture.says(ref("alice")._replace(gen="elsewhere.0.0"), bucket(0)) is None
    assert picture.says(ref("alice")._replace(gen="none"), bucket(0)) is False


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"7",
        b"[]",
        b'["ab","j","x","soon","","e 0 -1 1 1 "]',
        b'["ab","j","x","","","\xc3\xa9"]',
        b'["ab","j","x",7,"",7]',
        b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}',
        b'["zz","j","x","","","e 0 -1 1 1 "]',
        b'["ab","k","x","","","e 0 -1 1 1 "]',
        b'["ab","j","x","nan","","e 0 -1 1 1 "]',
        b"\xff",
        json.dumps(["ab", "j", "x", "", ""]).encode(),
    ],
)
def test_what_is_no_entry(raw):
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        Entry.read(raw)
