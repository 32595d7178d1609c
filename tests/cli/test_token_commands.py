"""`jwt token`: made as at a login, and explained claim by claim."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import jwt as pyjwt
import pytest

from tests.harness import SECRET
from tests.harness.servers import free_port


def made(line, *arguments):
    result = line("token", "create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def of(line, token):
    """The claims of a token, as they are explained."""
    return {claim["name"]: claim["value"] for claim in line.json("token", "inspect", token)["claims"]}


def test_a_token_is_made_and_accepted(line):
    line.make()
    claims = of(
        line, made(line, "alice", "--fresh", "--expires", "5m", "--claim", "team=red", "--claim", "level=5")
    )
    assert (claims["sub"], claims["type"], claims["fresh"]) == ("alice", "access", True)
    assert claims["exp"] - claims["iat"] == 300
    assert (claims["team"], claims["level"]) == ("red", 5)


@pytest.mark.parametrize("kind", ["access", "refresh", "reset"])
def test_types(line, kind):
    line.make()
    token = made(line, "alice", "--type", kind)
    assert of(line, token)["type"] == kind
    result = line("token", "inspect", token)
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        0,
        f"Accepted where a token of type {kind} is required",
    )


def test_a_pair(line):
    line.make()
    printed = dict(row.split(": ") for row in made(line, "alice", "--pair").splitlines())
    assert list(printed) == ["access_token", "refresh_token", "sid"]
    assert of(line, printed["refresh_token"])["sid"] == printed["sid"]
    found = json.loads(line("token", "create", "alice", "--pair", "--json").stdout)
    assert of(line, found["access_token"])["type"] == "access"


def test_both_tokens_of_a_pair_are_as_short_as_was_asked(line):
    line.make()
    pair = json.loads(made(line, "alice", "--pair", "--expires", "5m", "--json"))
    for name in ("access_token", "refresh_token"):
        claims = of(line, pair[name])
        assert claims["exp"] - claims["iat"] == 300


def test_numbers_that_are_none(line):
    line.make()
    assert of(line, made(line, "alice", "--claim", "n=NaN", "--claim", "m=-Infinity"))["n"] == "NaN"


def test_errors_of_pythons_own_within_ours_are_a_line(line):
    line.make()
    line.jwt.additional_claims_loader(lambda identity: {"n": float("nan")})
    result = line("token", "create", "alice")
    assert (result.exit_code, result.output[:7]) == (2, "Error: ")


def test_errors_within_a_hook_are_the_applications(line):
    line.make()
    line.jwt.additional_claims_loader(lambda identity: json.loads("{"))
    assert isinstance(line("token", "create", "alice").exception, ValueError)


def test_what_nobody_can_decide(line):
    line.make(JWT_STORE_URI=f"redis://127.0.0.1:{free_port()}")
    token = forged({}, {"sub": "alice", "type": "access", "jti": "1"})
    result = line("token", "inspect", token)
    assert result.exit_code == 3
    assert result.output.splitlines()[-1].startswith("Undecided: a request would get 503 store_unavailable: ")
    assert line.json("token", "inspect", token)["accepted"] is None
    line.make()
    line.jwt.token_verification_loader(lambda header, claims: None)
    assert line("token", "inspect", token).exit_code == 2


@pytest.mark.parametrize("kind", ["access", "refresh", "reset", "pair"])
def test_scopes_and_roles(line, kind):
    line.make()
    line.jwt.scopes_imply({"write": "read"})
    which = ["--pair"] if kind == "pair" else ["--type", kind]
    token = made(line, "alice", *which, "--scope", "write", "--scope", "a", "--role", "admin", "--json")
    token = next(iter(json.loads(token).values()))
    result = line("token", "inspect", token)
    assert "Scopes: a, read, write\nRoles: admin\n" in result.output
    found = line.json("token", "inspect", token)
    assert (found["scopes"], found["roles"]) == (["a", "read", "write"], ["admin"])
    assert "Scopes" not in line("token", "inspect", made(line, "alice")).output
    assert line("token", "create", "alice", "--scope", "a b").exit_code == 2


def test_json(line):
    line.make()
    assert list(json.loads(made(line, "alice", "--type", "refresh", "--json"))) == ["refresh_token"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fresh", "--type", "refresh"], "Only access tokens can be fresh"),
        (["--pair", "--type", "reset"], "--pair creates an access and a refresh token: omit --type"),
        (["--claim", "team"], "--claim team: write NAME=VALUE"),
        (["--claim", "=red"], "--claim =red: write NAME=VALUE"),
        (["--expires", "0.5"], "--expires must be at least one second"),
        (["--claim", "exp=[]"], "Expiration Time claim (exp) must be an integer."),
    ],
)
def test_what_cannot_be_made(line, arguments, message):
    line.make()
    result = line("token", "create", "alice", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_user_is_looked_up_where_the_application_logs_in_with_one(line):
    line.make()
    users = {"7": {"id": 7, "name": "alice"}}

    @line.jwt.user_identity_loader
    def identity_of(user):
        return str(user["id"])

    assert line("token", "create", "7").output == (
        "Error: user_identity_loader does not accept text, and user_lookup_loader found no user '7'\n"
    )

    @line.jwt.user_lookup_loader
    async def user_of(header, claims):
        return users.get(claims["sub"])

    @line.jwt.additional_claims_loader
    def claims_of(user):
        return {"name": user["name"]}

    assert of(line, made(line, "7"))["name"] == "alice"
    result = line("token", "create", "8")
    assert (result.exit_code, result.output) == (
        1,
        "Error: user_identity_loader does not accept text, and user_lookup_loader found no user '8'\n",
    )


def test_an_identity_that_is_text_needs_nobody(line):
    line.make()
    line.jwt.user_identity_loader(lambda identity: identity)
    assert of(line, made(line, "alice"))["sub"] == "alice"


def test_an_identity_that_is_another_one_in_tokens(line):
    """What stands in tokens is what is asked for: whoever the application would log in under that name is not."""
    line.make()
    line.jwt.user_identity_loader(lambda user: f"user:{user}")
    line.jwt.user_lookup_loader(lambda header, claims: claims["sub"].removeprefix("user:"))
    assert of(line, made(line, "user:7"))["sub"] == "user:7"
    assert line("token", "create", "7").exit_code == 1


def test_hooks_that_take_too_long(line):
    line.make(JWT_HOOK_TIMEOUT=0.01)

    @line.jwt.user_identity_loader
    async def identity_of(user):
        await asyncio.sleep(5)

    result = line("token", "create", "alice")
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        "Error: user_identity_loader took too long",
    )


def test_hooks_that_return_the_wrong_thing_are_named(line):
    line.make()
    line.jwt.user_identity_loader(lambda identity: identity)
    line.jwt.additional_claims_loader(lambda identity: "text")
    result = line("token", "create", "alice")
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        "Error: additional_claims_loader returned str; it must return a dict",
    )


def test_what_servers_open_at_their_start_is_there(quart_line):
    app = quart_line.make()
    log = []

    @app.before_serving
    async def begin():
        log.append("begin")

    @app.after_serving
    async def end():
        log.append("end")

    @quart_line.jwt.additional_claims_loader
    async def claims_of(identity):
        log.append("asked")
        return {}

    made(quart_line, "alice")
    assert log == ["begin", "asked", "end"]


EXPLAINED = """\
Header
  typ  JWT
  alg  HS256
Claims
  fresh  false
  iat    2027-01-15 08:00:00 UTC (16 minutes ago)
  jti    the-id
  type   access
  sub    alice
  nbf    2027-01-15 08:00:00 UTC (16 minutes ago)
  csrf   (not shown)
  exp    2027-01-15 08:15:00 UTC (1 minute ago)  REFUSED Signature has expired
  gen    m.0.0
Revocation unknown: the application keeps it in process memory, out of reach here
Refused with 401 token_expired: Signature has expired
"""


def test_it_is_explained_claim_by_claim(line):
    line.make()
    token = made(line, "alice", "--claim", "jti=the-id")
    line.clock.now += 960
    result = line("token", "inspect", given=f"{token}\n")
    assert (result.exit_code, result.output) == (1, EXPLAINED)


def test_json_has_it_all_but_for_secrets(line):
    line.make()
    token = made(line, "alice")
    found = line.json("token", "inspect", token)
    assert (found["accepted"], found["type"], found["refusal"], found["revocation_known"]) == (
        True,
        "access",
        None,
        False,
    )
    assert found["header"] == [
        {"name": "typ", "value": "JWT", "problem": None},
        {"name": "alg", "value": "HS256", "problem": None},
    ]
    assert {"name": "csrf", "value": None, "problem": None} in found["claims"]
    line.clock.now += 3600
    refusal = line.json("token", "inspect", token)["refusal"]
    assert refusal == {"status": 401, "code": "token_expired", "why": "Signature has expired"}


def test_nothing_that_is_printed_lets_anybody_in(line):
    line.make()
    token = made(line, "alice")
    csrf = verified(line, token).claims["csrf"]
    for option in ([], ["--json"]):
        output = line("token", "inspect", token, *option).output
        for secret in (token, token.rpartition(".")[2], csrf, SECRET):
            assert secret not in output


def problems(line, token):
    found = line.json("token", "inspect", token)
    return {part["name"]: part["problem"] for part in [*found["header"], *found["claims"]] if part["problem"]}


def forged(header, claims, key=SECRET):
    return pyjwt.encode(claims, key, header.get("alg", "HS256"), header)


@pytest.mark.parametrize(
    ("header", "claims", "config", "expected"),
    [
        ({}, {"iss": "them"}, {"JWT_DECODE_ISSUER": "us"}, {"iss": "Invalid issuer"}),
        ({}, {}, {"JWT_DECODE_ISSUER": "us"}, {"iss": 'missing: Token is missing the "iss" claim'}),
        ({}, {"aud": ["them"]}, {"JWT_DECODE_AUDIENCE": "us"}, {"aud": "Audience doesn't match"}),
        ({}, {"aud": ["us", "them"]}, {"JWT_DECODE_AUDIENCE": "us"}, {}),
        ({}, {"type": None}, {}, {"type": "Type claim must be a string"}),
        ({}, {"nbf": 1_800_000_100}, {}, {"nbf": "The token is not yet valid (nbf)"}),
        ({}, {"fresh": "yes"}, {}, {"fresh": "Fresh claim must be a boolean or a number"}),
        (
            {},
            {"sid": 5, "gen": []},
            {},
            {"sid": "Session ID must be a string", "gen": "Generation claim must be a string"},
        ),
        ({"crit": ["x"]}, {}, {}, {"crit": "Unsupported critical extension"}),
        ({"typ": "dpop+jwt"}, {}, {}, {"typ": "The specified typ value is not allowed"}),
        ({"alg": "HS512"}, {}, {}, {"alg": "The specified alg value is not allowed"}),
    ],
)
def test_each_claim_is_judged_by_itself(line, header, claims, config, expected):
    line.make(**config)
    token = forged(header, {"sub": "alice", "type": "access", "jti": "1", **claims})
    assert problems(line, token) == expected
    assert line("token", "inspect", token).exit_code == (1 if expected else 0)


def test_a_claim_that_is_missing(line):
    line.make()
    assert problems(line, forged({}, {"jti": "1"})) == {
        "sub": "missing: Missing claim: sub",
        "type": "missing: Missing claim: type",
    }
    output = line("token", "inspect", forged({}, {"jti": "1", "type": "access", "gone": None})).output
    assert "  sub  REFUSED missing: Missing claim: sub" in output
    assert "  gone  null" in output


def test_a_claim_that_need_not_be_there(line):
    line.make(JWT_REQUIRE_TYPE=False)
    assert problems(line, forged({}, {"jti": "1", "sub": "alice"})) == {}


def test_a_store_of_ones_own_is_asked(quart_line):
    class Refusing:
        async def check(self, ref):
            return False

        async def start(self):
            pass

        close = start

    quart_line.make(manager={"store": Refusing()})
    result = quart_line("token", "inspect", forged({}, {"jti": "1", "sub": "alice", "type": "access"}))
    assert result.output.splitlines()[-1] == "Refused with 401 token_revoked: Token has been revoked"


def test_another_signature(line):
    line.make()
    result = line("token", "inspect", forged({}, {"sub": "alice", "type": "access"}, "another" * 10))
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        1,
        "Refused with 401 token_invalid: Signature verification failed",
    )


@pytest.mark.parametrize("text", ["nonsense", "a.b.c", "..", "ä", "x" * 100_000])
def test_what_is_no_token(line, text):
    line.make()
    result = line("token", "inspect", text)
    assert result.exit_code == 1
    assert result.output.startswith("Error: Not a token: ")


def test_no_token_at_all(line):
    line.make()
    assert line("token", "inspect", given=" \n").output == "Error: No token on standard input\n"


def test_control_characters_reach_no_terminal(line):
    line.make()
    token = forged({}, {"sub": "\x1b[2Jalice", "type": "access", "jti": "1", "a\x07": 1})
    output = line("token", "inspect", token).output
    assert "\x1b" not in output
    assert "\\x1b[2Jalice" in output
    token = forged({}, {"sub": "\x9b2Jalice\u202e", "type": "access", "jti": "1"})
    line.jwt.user_lookup_loader(lambda header, claims: None)  # whose refusal quotes the identity
    for option in ([], ["--json"]):
        output = line("token", "inspect", token, *option).output
        assert not {"\x9b", "\u202e"} & set(output)


@pytest.mark.parametrize("value", [-1, 2**70, 1.5, False, "soon", None, [], {}])
@pytest.mark.parametrize("name", ["iat", "nbf", "exp", "fresh", "jti", "aud"])
def test_claims_of_any_kind_are_shown(quart_line, name, value):
    quart_line.make()
    result = quart_line("token", "inspect", forged({}, {"sub": "alice", "type": "access", name: value}))
    assert result.exit_code in (0, 1)
    assert f"  {name}" in result.output


def test_the_applications_own_checks_are_asked(line):
    line.make()
    token = made(line, "alice")
    line.jwt.token_verification_loader(lambda header, claims: False)
    assert (
        line("token", "inspect", token).output.splitlines()[-1].startswith("Refused with 400 claims_rejected")
    )
    line.jwt.token_verification_loader(lambda header, claims: True)
    line.jwt.user_lookup_loader(lambda header, claims: None)
    assert "Refused with 401 user_not_found" in line("token", "inspect", token).output


def test_looking_at_a_token_that_was_used_again_ends_no_session(line):
    """What an operator looks at is no replay by a thief."""
    line.make(JWT_REFRESH_GRACE=0)
    pair = line.json("token", "create", "alice", "--pair")
    store, ref = line.jwt.store, verified(line, pair["refresh_token"]).ref

    async def rotate():
        seen = await store.load_session(ref)
        following = replace(seen.session, refresh_jti="next", previous_jti=ref.jti)
        assert await store.replace_session(following, seen) is not None

    asyncio.run(rotate())
    assert "Refused with 401 token_reused" in line("token", "inspect", pair["refresh_token"]).output
    assert asyncio.run(store.get_session(pair["sid"])) is not None
    assert line("token", "inspect", pair["access_token"]).exit_code == 0


def verified(line, token):
    engine = line.jwt._current()[0].engine()
    return engine.codec.verify(token, engine.ring.at(line.clock.now))


def test_a_token_is_typed_unseen_on_a_terminal(line, monkeypatch):
    line.make()
    token = made(line, "alice")
    monkeypatch.setattr(
        "async_jwt.cli.tokens.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )
    result = line("token", "inspect", given=f"{token}\n")
    assert result.exit_code == 0
    assert token not in result.output
