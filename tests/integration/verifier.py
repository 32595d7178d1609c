"""Another service: verifies tokens with PyJWT's own JWKS client until its input ends.

Writes a line once it verified the first one and, at the end, how many it verified by key id,
and what it could not verify.
"""

from __future__ import annotations

import collections
import json
import select
import sys

import httpx
import jwt

URL = sys.argv[1]


def main() -> None:
    keys = jwt.PyJWKClient(f"{URL}/.well-known/jwks.json", lifespan=1)
    verified: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    with httpx.Client(base_url=URL) as client:
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            token = client.post("/login/60").json()["token"]
            try:
                jwt.decode(token, keys.get_signing_key_from_jwt(token))
            except jwt.PyJWTError as problem:
                problems.append(repr(problem))
            else:
                if not verified:
                    say("ready")
                verified[jwt.get_unverified_header(token)["kid"]] += 1
    say(json.dumps({"verified": verified, "problems": problems}))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


main()
