"""What a mirror holds: against a model of it, one by one and as a filter."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of, bucket_of_sid
from async_jwt.stores.redis.mirror.snapshot import Entry, Snapshot
from async_jwt.stores.redis.schema import Bucket, TokenStatus

EPOCH = "epoch"
NAMES = st.text(max_size=3)


def bucket(count: int, generation: int = 0, epoch: str = EPOCH) -> Bucket:
    return Bucket(epoch, generation, -1.0, count, str(count), ())


def ref(identity: str, jti: str | None = None, sid: str | None = None, user: int = 0) -> TokenRef:
    return TokenRef(identity, jti, sid, f"{EPOCH}.0.{user}", 0.0, None)


def told(identity: str, kind: str, name: str, state: Bucket, user: str = "", follows: str = "") -> Entry:
    place = bucket_of_sid(name) if kind == "s" else bucket_of(identity)
    return Entry(place, kind, name, -1.0, user, follows or str(state.revocations - 1), state)


def says(snapshot: Snapshot, token: TokenRef) -> bool | None:
    status = snapshot.status(token, bucket_of(token.identity), bucket(0))
    return None if status is None else status is TokenStatus.VALID


def drawn(most: int, expected: int = 0) -> Snapshot:
    snapshot = Snapshot(most, expected)
    for number in range(256):
        snapshot.begin(f"{number:02x}", bucket(0))
    return snapshot


REVOCATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("j"), NAMES, NAMES),
        st.tuples(st.just("s"), NAMES, NAMES),
        st.tuples(st.just("u"), NAMES, st.integers(1, 9).map(str)),
    ),
    max_size=30,
)


@given(REVOCATIONS, st.sampled_from([0, 1, 5, 100]), st.booleans())
def test_what_is_revoked_is_never_said_to_count(revocations, most, from_feed):  # noqa: C901
    """One by one it says what is; as a filter, what surely is not revoked, and is silent on all that is."""
    snapshot = drawn(max(1, most))
    tokens, sessions, users = set(), set(), {}
    for kind, who, what in revocations:
        name = who if kind == "u" else what
        place = bucket_of_sid(name) if kind == "s" else bucket_of(who)
        at = snapshot.heard[place]
        value = f"{what} 1.0 0 0 " if kind == "u" else ""
        if from_feed:
            assert snapshot.apply(told(who, kind, name, bucket(at.revocations + 1), value), 0.0)
        else:
            snapshot.add(f"u{who}" if kind == "u" else f"{kind}{place}{name}", value or -1, 0.0)
        if kind == "j":
            tokens.add((bucket_of(who), what))
        elif kind == "s":
            sessions.add(what)
        if kind == "u":
            users[who] = max(users.get(who, 0), int(what))
    is_filter = len({*tokens}) + len({*sessions}) + len(users) > max(1, most)
    for _, who, what in [*revocations, ("", "nobody", "nothing")]:
        for made in (0, 5, 9):
            for token in (ref(who, what, None, made), ref(who, None, what, made), ref(who, "x!", "y!", made)):
                is_revoked = (bucket_of(who), token.jti) in tokens or token.sid in sessions
                dead = is_revoked or made < users.get(who, 0)
                said = says(snapshot, token)
                ahead = made > users.get(who, 0)  # a later state than was heard: that has to be asked
                if is_filter:
                    assert said is not True or not (dead or ahead)
                elif is_revoked:
                    assert said is False
                else:
                    assert said is (None if ahead else not dead)


def test_what_does_not_follow_is_not_taken():
    snapshot = drawn(10)
    place = bucket_of("alice")
    assert snapshot.apply(told("alice", "j", "one", bucket(1)), 0.0)
    assert not snapshot.apply(told("alice", "j", "three", bucket(3)), 0.0)
    assert not snapshot.apply(told("alice", "j", "other", bucket(2, epoch="other")), 0.0)
    assert not snapshot.apply(told("alice", "j", "of another history", bucket(2), follows="7"), 0.0)
    assert snapshot.apply(told("alice", "j", "again", bucket(1)), 0.0)
    assert snapshot.heard[place] == bucket(1)
    names = ("one", "three", "other", "of another history", "again")
    assert [says(snapshot, ref("alice", name)) for name in names] == [False, *[True] * 4]
    snapshot.lacks(place)
    assert not snapshot.apply(told("alice", "j", "two", bucket(2)), 0.0)


def test_it_tells_one_history_from_another():
    snapshot, place = drawn(100), bucket_of("alice")
    for count in range(1, 21):
        assert snapshot.apply(told("alice", "j", f"token {count}", bucket(count)), 0.0)
    assert [snapshot.revision_at(place, count) for count in (4, 5, 20, 21)] == [None, "5", "20", None]


def test_a_reader_sees_no_half_made_filter(monkeypatch):
    """Another thread asks while a snapshot becomes a filter."""
    snapshot = drawn(3)
    for number in range(3):
        snapshot.add(f"j{bucket_of('alice')}{number}", -1, 0.0)
    asked = []

    def watched(name, value):
        object.__setattr__(snapshot, name, value)
        asked.append(says(snapshot, ref("alice", "0")))

    monkeypatch.setattr(Snapshot, "__setattr__", lambda _, name, value: watched(name, value))
    snapshot.add(f"j{bucket_of('alice')}3", -1, 0.0)
    monkeypatch.undo()
    assert len(asked) >= 4
    assert True not in asked


def test_entries_are_dropped_in_their_time():
    snapshot = drawn(10_000)
    for number in range(6000):
        snapshot.add(f"j{bucket_of('x')}{number}", 90_000.0, 0.0)
    snapshot.add(f"j{bucket_of('x')}ever", -1, 0.0)
    snapshot.add(f"j{bucket_of('x')}0", 600_000.0, 0.0)
    snapshot.add(f"j{bucket_of('x')}1", 10.0, 0.0)
    snapshot.add(f"j{bucket_of('x')}gone", -2, 0.0)
    snapshot.add("ualice", "1 1.0 0 0 ", 0.0)
    assert len(snapshot) == 6002
    snapshot.sweep(60.0)
    assert len(snapshot) == 6002
    snapshot.sweep(200.0)
    assert 1000 <= len(snapshot) < 6002
    snapshot.sweep(200.0)
    assert len(snapshot) == 3
    assert says(snapshot, ref("x", "0")) is False
    snapshot.sweep(10_000.0)
    assert len(snapshot) == 2
    assert says(snapshot, ref("x", "ever")) is False


def test_a_filter_grows_and_wears():
    snapshot = drawn(5, expected=20)
    for number in range(100):
        snapshot.add(f"j{bucket_of('x')}{number}", -1, 0.0)
    snapshot.mark_complete()
    assert len(snapshot._filters) == 2
    assert len(snapshot) == 100
    for number in range(100, 200):
        snapshot.add(f"j{bucket_of('x')}{number}", -1, 0.0)
    assert not snapshot.is_overfull
    snapshot.add(f"j{bucket_of('x')}200", -1, 0.0)
    assert snapshot.is_overfull
    snapshot.sweep(1e9)
    assert all(says(snapshot, ref("x", str(number))) is None for number in range(201))
    passed = [says(snapshot, ref("x", f"nothing {number}")) for number in range(1000)]
    assert passed.count(True) > 950


def test_what_somebody_else_wrote_at_a_user_has_to_be_asked_for():
    snapshot = drawn(5)
    snapshot.add("ualice", "junk", 0.0)
    assert says(snapshot, ref("alice", "j")) is None
    snapshot.add("ualice", "3 1.0 0 0 ", 0.0)
    assert says(snapshot, ref("alice", "j")) is False
    snapshot.add("ualice", "2 1.0 0 0 ", 0.0)
    assert says(snapshot, ref("alice", "j", user=2)) is False


def test_tokens_of_no_store_have_to_be_asked_for():
    snapshot = drawn(5)
    assert says(snapshot, ref("alice")._replace(gen="elsewhere.0.0")) is None
    assert says(snapshot, ref("alice")._replace(gen="none")) is False


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"7",
        b"[]",
        b'["ab","j","x","soon","","0","e 0 -1 1 1 "]',
        b'["ab","j","x","","","0","\xc3\xa9"]',
        b'["ab","j","x","","","0","nothing"]',
        b'["ab","j","x",7,"","0",7]',
        b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}',
        b'["zz","j","x","","","0","e 0 -1 1 1 "]',
        b'["ab","k","x","","","0","e 0 -1 1 1 "]',
        b'["ab","j","x","nan","","0","e 0 -1 1 1 "]',
        b"\xff",
        json.dumps(["ab", "j", "x", "", ""]).encode(),
        pytest.param(b"[" * 200_000, id="nested without end"),
    ],
)
def test_what_is_no_entry(raw):
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        Entry.read(raw)


def test_what_the_channel_says_can_revoke_and_never_the_contrary():
    snapshot, place = drawn(100), bucket_of("mallory")
    sid = place + "session"
    token = ref("mallory", "one", sid)
    dead = told("mallory", "u", "mallory", bucket(1), "5 1.0 5 1.0 ")
    assert snapshot.apply(dead, 0.0)
    assert says(snapshot, token) is False
    # The same user, with a later generation and a session that is kept: forged, and asked for.
    forged = told("mallory", "u", "mallory", bucket(2), f"9 1.0 0 0 {sid}")
    assert not snapshot.apply_unverified(forged, 1.0)
    assert says(snapshot, token) is None
    snapshot.confirm(place, 0.5)
    assert says(snapshot, token) is None, "the look began before it was said"
    snapshot.confirm(place, 2.0)
    assert says(snapshot, token) is False
    assert snapshot.heard[place] == bucket(1)


def test_the_channel_brings_no_generation_and_no_history():
    snapshot, place = drawn(100), bucket_of("mallory")
    token = ref("mallory", "one")
    for state in (
        bucket(1, generation=7),
        bucket(1)._replace(raised_at=5.0),
        bucket(1)._replace(previous_epochs=("other",)),
        bucket(1, epoch="other"),
    ):
        assert not snapshot.apply_unverified(told("mallory", "j", "one", state), 0.0)
        assert says(snapshot, token) is True
    assert not snapshot.apply_unverified(told("mallory", "a", "", bucket(1)), 0.0)
    assert snapshot.apply_unverified(told("mallory", "j", "one", bucket(1)), 0.0)
    assert says(snapshot, token) is False
    snapshot.lacks(place)
    assert not snapshot.apply_unverified(told("mallory", "j", "two", bucket(2)), 0.0)


def test_the_channel_fills_no_memory():
    snapshot, place = drawn(1000), bucket_of("mallory")
    for number in range(101):
        assert not snapshot.apply_unverified(
            Entry(place, "u", f"user {number}", -1.0, "9 1.0 0 0 ", "0", bucket(1)), 0.0
        )
    assert place not in snapshot.heard, "the server is asked about all of it"
    assert len(snapshot._doubted[place]) == 100
