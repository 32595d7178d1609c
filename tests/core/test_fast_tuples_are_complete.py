"""What is made directly has all of its fields."""

from __future__ import annotations

from async_jwt import Key, KeyRing
from async_jwt.core.codec import Codec, encode
from async_jwt.core.settings import Settings
from tests.harness import SECRET


def test_what_is_made_directly_is_whole():
    ring = KeyRing(Key(SECRET))
    codec = Codec(Settings.from_config({}))
    token = encode({}, {"sub": "a", "jti": "1", "type": "access"}, ring.signing)
    parts, _ = codec.inspect(token)
    verified = codec.verify(token, ring.at(0))
    for fast_tuple in (parts, verified, verified.ref):
        assert len(fast_tuple) == len(fast_tuple._fields)
