"""`jwt doctor`: each planted mistake is found, with its fix; a sound application gets a clean bill."""

from __future__ import annotations

import datetime as dt
import secrets
import time
import uuid

import pytest
from dateutil.relativedelta import relativedelta

from async_jwt import Key, KeyFolder, KeyRing
from async_jwt.cli.diagnosis import _of_secret
from async_jwt.core.settings import Settings
from async_jwt.stores.contract import StoreStatus
from tests.harness import SECRET
from tests.harness.servers import free_port

GOOD = "7f3a" * 4 + SECRET[::-1]
COOKIES = {"JWT_TOKEN_LOCATION": ["headers", "cookies"]}


@pytest.fixture
def sound(line, redis_url):
    """A command line for an application that nothing is wrong with, but for what a test plants."""

    def make(**config):
        return line.make(
            **{
                "secret": GOOD,
                "JWT_STORE_URI": f"{redis_url}?prefix={uuid.uuid4()}:",
                "JWT_DEFAULT_DENY": True,
                **config,
            }
        )

    line.sound = make
    return line


def clean(findings):
    """Without what the test's own server lacks."""
    return [finding for finding in findings if "appendonly" not in finding["fix"]]


def found(line, *arguments):
    return clean(line.json("doctor", *arguments))


PLANTED = {
    "a secret that is too short": (
        {"secret": "short", "JWT_MIN_SECRET_BYTES": 0},
        "error  JWT_SECRET_KEY: it is shorter than 32 bytes, so tokens can be forged",
        "generate JWT_SECRET_KEY with secrets.token_hex(64)",
    ),
    "a secret of one letter": (
        {"secret": "a" * 64},
        "error  JWT_SECRET_KEY: it has few distinct characters, so it can be guessed",
        "generate JWT_SECRET_KEY with secrets.token_hex(64)",
    ),
    "a secret out of a tutorial": (
        {"secret": "your-256-bit-secret-goes-here-in-production"},
        "error  JWT_SECRET_KEY: it looks like one from a tutorial, so it can be guessed",
        "generate JWT_SECRET_KEY with secrets.token_hex(64)",
    ),
    "one secret for two purposes": (
        {"secret": None, "SECRET_KEY": GOOD},
        "warning  JWT_SECRET_KEY: SECRET_KEY signs both tokens and the framework's sessions: one leak compromises both",
        "set a separate secret for tokens",
    ),
    "no key": (
        {"secret": None},
        "error  keys: There is no key for HS256: set JWT_SECRET_KEY or SECRET_KEY",
        "correct it: no token can be made or accepted",
    ),
    "a setting of one's own": (
        {"JWT_ISSUER": "me"},
        "warning  JWT_ISSUER: nothing reads JWT_ISSUER",
        'If it is your own, set JWT_IGNORED_SETTINGS = ["JWT_ISSUER"]',
    ),
    "a setting of former versions": (
        {"JWT_USER_CLAIMS": "user"},
        "warning  JWT_USER_CLAIMS: nothing reads JWT_USER_CLAIMS any more: additional claims are at the top level of a token: read them with get_jwt()",
        "remove it",
    ),
    "a setting that is misspelled where nobody refuses it": (
        {"JWT_ACCES_TOKEN_EXPIRES": 60, "JWT_COMPAT": "flask-jwt-extended", "JWT_COOKIE_SECURE": True},
        "warning  JWT_ACCES_TOKEN_EXPIRES: JWT_ACCES_TOKEN_EXPIRES is not a setting",
        'Did you mean JWT_ACCESS_TOKEN_EXPIRES? If it is your own, set JWT_IGNORED_SETTINGS = ["JWT_ACCES_TOKEN_EXPIRES"]',
    ),
    "refresh tokens for a hundred years": (
        {"JWT_REFRESH_TOKEN_EXPIRES": dt.timedelta(days=36525)},
        "warning  JWT_REFRESH_TOKEN_EXPIRES: refresh tokens live for 36525 days",
        "set how many days a device may stay unused: each use restarts the count",
    ),
    "repeats that are never late": (
        {"JWT_REFRESH_LATE_AFTER": 10},
        "warning  JWT_REFRESH_LATE_AFTER: it is not shorter than JWT_REFRESH_GRACE: no repeat of a copied refresh token counts as late",
        "make it shorter than JWT_REFRESH_GRACE",
    ),
    "a refresh cookie that no view gets": (
        {**COOKIES, "JWT_REFRESH_COOKIE_PATH": "/auth"},
        "warning  JWT_REFRESH_COOKIE_PATH: no view under /auth takes refresh tokens: the cookie never reaches a view that does",
        "set it to the path of such a view, or to a prefix of all of them",
    ),
    "access tokens for ever": (
        {"JWT_ACCESS_TOKEN_EXPIRES": False, "JWT_REFRESH_TOKEN_EXPIRES": False},
        "error  JWT_ACCESS_TOKEN_EXPIRES: access tokens never expire",
        "use minutes, such as timedelta(minutes=15)",
    ),
    "access tokens for a week": (
        {"JWT_ACCESS_TOKEN_EXPIRES": dt.timedelta(days=7)},
        "warning  JWT_ACCESS_TOKEN_EXPIRES: access tokens live longer than a day",
        "use a lifetime of minutes, and refresh them",
    ),
    "access tokens for months": (
        {
            "JWT_ACCESS_TOKEN_EXPIRES": relativedelta(months=1),
            "JWT_REFRESH_TOKEN_EXPIRES": relativedelta(months=6),
        },
        "warning  JWT_ACCESS_TOKEN_EXPIRES: access tokens live longer than a day",
        "use a lifetime of minutes, and refresh them",
    ),
    "refresh tokens for ever": (
        {"JWT_REFRESH_TOKEN_EXPIRES": False},
        "warning  JWT_REFRESH_TOKEN_EXPIRES: refresh tokens never expire",
        "use days, such as timedelta(days=30)",
    ),
    "refresh tokens that end first": (
        {"JWT_REFRESH_TOKEN_EXPIRES": 300},
        "error  JWT_REFRESH_TOKEN_EXPIRES: refresh tokens do not outlive the access tokens they renew",
        "make it longer than JWT_ACCESS_TOKEN_EXPIRES",
    ),
    "a long leeway": (
        {"JWT_DECODE_LEEWAY": 3600},
        "warning  JWT_DECODE_LEEWAY: expired tokens are accepted for minutes",
        "allow a few seconds, for clock skew",
    ),
    "a long grace": (
        {"JWT_REFRESH_GRACE": 600},
        "warning  JWT_REFRESH_GRACE: a copied refresh token still works for minutes after it was replaced",
        "use seconds: the default is 10",
    ),
    "tokens without a type": (
        {"JWT_REQUIRE_TYPE": False},
        "warning  JWT_REQUIRE_TYPE: a token without `type` counts as an access token",
        "set it to True, unless the tokens come from another issuer",
    ),
    "an audience that is not its own": (
        {"JWT_DECODE_AUDIENCE": "them"},
        "error  JWT_DECODE_AUDIENCE: it rejects all of this application's own tokens",
        "set JWT_ENCODE_AUDIENCE to one that it lists",
    ),
    "an issuer that is not its own": (
        {"JWT_DECODE_ISSUER": "them"},
        "error  JWT_DECODE_ISSUER: it rejects all of this application's own tokens",
        "set JWT_ENCODE_ISSUER to one that it lists",
    ),
    "tokens in URLs": (
        {"JWT_TOKEN_LOCATION": ["headers", "query_string"]},
        "warning  JWT_TOKEN_LOCATION: tokens in query strings end up in logs, browser histories and Referer headers",
        "remove query_string, and allow it with jwt_required(locations=...) where needed",
    ),
    "cookies over http": (
        {**COOKIES, "JWT_COOKIE_SECURE": False},
        "error  JWT_COOKIE_SECURE: cookies are sent over http, where anyone on the network can read them",
        "set it to True; False is for local development",
    ),
    "no CSRF protection": (
        {**COOKIES, "JWT_COOKIE_CSRF_PROTECT": False},
        "error  JWT_COOKIE_CSRF_PROTECT: other sites can send requests with your users' cookies",
        "set it to True, and send the CSRF value in the X-CSRF-TOKEN header",
    ),
    "CSRF protection of some methods": (
        {**COOKIES, "JWT_CSRF_METHODS": ["POST", "PUT"]},
        "error  JWT_CSRF_METHODS: DELETE and PATCH requests need no CSRF value",
        "add DELETE, PATCH",
    ),
    "no look at the Origin": (
        {**COOKIES, "JWT_CSRF_CHECK_ORIGIN": False},
        "warning  JWT_CSRF_CHECK_ORIGIN: the Origin header is not checked",
        "set it to True",
    ),
    "cookies for all sites": (
        {**COOKIES, "JWT_COOKIE_SAMESITE": "None"},
        "warning  JWT_COOKIE_SAMESITE: browsers send the cookies with requests from other sites",
        'set "Lax" or "Strict", unless your pages are on another site',
    ),
    "cookies for all subdomains": (
        {**COOKIES, "JWT_COOKIE_DOMAIN": "app.example"},
        "warning  JWT_COOKIE_DOMAIN: every host in the domain receives the tokens and can set these cookies",
        'remove it, and set JWT_COOKIE_PREFIX = "__Host-"',
    ),
    "two cookies of one name": (
        {**COOKIES, "JWT_REFRESH_COOKIE_NAME": "access_token_cookie"},
        "error  JWT_..._COOKIE_NAME: 2 cookies are named access_token_cookie",
        "give each its own name",
    ),
    "a trusted origin over http": (
        {**COOKIES, "JWT_TRUSTED_ORIGINS": ["http://app.example", "https://app.example"]},
        "warning  JWT_TRUSTED_ORIGINS: http://app.example is trusted, but anyone on the network can alter its pages",
        "trust https origins only",
    ),
    "a store in memory": (
        {"JWT_STORE_URI": "memory://"},
        (
            "warning  JWT_STORE_URI: revocations and sessions are kept in one process's memory: other processes do "
            "not see them, and a restart loses them"
        ),
        'set JWT_STORE_URI = "redis://..."',
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_it_finds_what_is_planted_and_nothing_else(sound, mistake):
    config, what, fix = PLANTED[mistake]
    sound.sound(**config)
    findings = found(sound)
    level, _, rest = what.partition("  ")
    about, _, text = rest.partition(": ")
    expected = {"level": level, "about": about, "what": text, "fix": fix}
    assert expected in findings
    others = [finding["about"] for finding in findings if finding != expected]
    assert others in ([], ["JWT_REFRESH_TOKEN_EXPIRES"])  # which goes with access tokens for ever
    result = sound("doctor")
    assert result.output.startswith(f"{level}  ")
    assert f"{what}\n  fix: {fix}\n" in result.output
    assert result.exit_code == (1 if level == "error" else 0)
    assert sound("doctor", "--strict").exit_code == 1
    assert GOOD not in result.output


def test_a_clean_bill(line, make_server):
    server = make_server("--appendonly", "yes")
    line.make(secret=GOOD, JWT_STORE_URI=server.url, JWT_DEFAULT_DENY=True, **COOKIES)
    assert line.json("doctor", "--strict", "--identity", "alice") == []
    result = line("doctor", "--strict", "--identity", "alice")
    assert (result.exit_code, result.output) == (0, "No problems found\n")
    assert line("doctor").output == "No problems found. Hooks were not run: pass --identity to run them\n"


def test_memory_forgets_which_tokens_were_used(sound):
    app = sound.sound(JWT_STORE_URI="memory://")
    view = sound.api.jwt_required(type="reset", once=True)(lambda: "")
    app.add_url_rule("/reset", "reset", view, methods=["POST"])
    (finding,) = found(sound)
    assert finding["what"].endswith("so that a token that was used once can be used again")


def test_a_view_that_never_uses_its_token_up_is_an_error(sound):
    app = sound.sound()
    app.add_url_rule("/reset", "reset", sound.api.jwt_required(type="reset", once=True)(lambda: ""))
    (finding,) = found(sound)
    assert (finding["level"], finding["about"]) == ("error", "views")
    assert "serve GET alone: reset" in finding["what"]


def test_pages_that_keep_the_application_from_starting_are_errors(sound):
    app = sound.sound(
        JWT_LOGIN_VIEW="nowhere",
        JWT_REFRESH_COOKIE_PATH="/auth",
        JWT_TOKEN_LOCATION=["headers", "cookies"],
    )
    app.add_url_rule("/page", "page", sound.api.jwt_required(refresh_cookie=True)(lambda: ""))
    app.add_url_rule("/auth/refresh", "refresh", sound.api.jwt_required(refresh=True)(lambda: ""))
    findings = [finding["what"] for finding in found(sound) if finding["level"] == "error"]
    assert len(findings) == 2
    assert "set JWT_REFRESH_COOKIE_PATH" in findings[0]
    assert "JWT_LOGIN_VIEW = 'nowhere' is no endpoint" in findings[1]


def test_nothing_is_wrong_with_memory_while_one_develops(line, monkeypatch):
    line.make(secret=GOOD, **COOKIES, JWT_COOKIE_SECURE=False)
    for name in ("QUART_DEBUG", "FLASK_DEBUG"):
        monkeypatch.setenv(name, "1")
    assert line.json("doctor") == []


def test_open_views(sound):
    app = sound.sound(JWT_DEFAULT_DENY=False)
    app.add_url_rule("/b", "b", lambda: "")
    app.add_url_rule("/a", "a", lambda: "", methods=["POST", "GET"])
    (finding,) = found(sound)
    assert (finding["level"], finding["what"]) == ("warning", "unprotected and not marked @public: a, b")


def test_scopes_that_no_token_will_have(sound):
    app = sound.sound()
    required = sound.api.jwt_required(scopes=["orders:*", "orders:read"])
    app.add_url_rule("/a", "a", required(lambda: ""))
    sound.jwt.scopes_imply({"orders:all": ["orders:read", "ordres:write"], "root": "orders:all"})
    wildcard, misspelled = found(sound)
    assert (wildcard["level"], wildcard["about"]) == ("warning", "views")
    assert wildcard["what"].startswith("a demands the scope 'orders:*': a wildcard means nothing")
    assert misspelled["what"] == "no decorator demands the scope 'ordres:write', which another one implies"


def test_applications_that_do_not_begin(line):
    line.app = lambda: line.make(JWT_ALGORITHM="none")
    (finding,) = line.json("doctor")
    assert (finding["level"], finding["about"]) == ("error", "settings")
    assert finding["what"].startswith("JWT_ALGORITHM must be one of")
    line.app = line.framework.__dict__[line.framework.__name__.title()]("tests")
    (finding,) = line.json("doctor")
    assert (finding["about"], finding["fix"]) == ("application", "correct it: nothing is protected")
    assert line("doctor").exit_code == 1


def test_a_store_that_cannot_be_reached(sound):
    sound.sound(JWT_STORE_URI=f"redis://127.0.0.1:{free_port()}")
    (finding,) = found(sound)
    assert (finding["level"], finding["about"]) == ("error", "JWT_STORE_URI")
    assert finding["what"].startswith("the store cannot be reached (")
    assert finding["fix"] == "start it, or correct the address"


def test_what_a_server_says_of_itself(sound, make_server):
    server = make_server(
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
        "--save",
        "",
        "--repl-diskless-sync-delay",
        "0",
    )
    sound.sound(JWT_STORE_URI=server.url)
    assert [(finding["level"], finding["fix"]) for finding in sound.json("doctor")] == [
        ("error", "set its maxmemory-policy to noeviction"),
        ("warning", "set its appendonly to yes"),
    ]
    replica = make_server("--replicaof", "127.0.0.1", str(server.port), "--save", "", "--appendonly", "yes")
    for _ in range(200):
        if replica.does("INFO", "replication")["master_link_status"] == "up":
            break
        time.sleep(0.02)
    sound.sound(JWT_STORE_URI=replica.url)
    assert "use its primary, or the Sentinels" in [finding["fix"] for finding in sound.json("doctor")]


@pytest.mark.parametrize(
    ("uri", "fixes"),
    [
        ("redis://cache.example", ["use rediss://", "require one, and put it in the URI"]),
        ("redis://:secret@cache.example", ["use rediss://"]),
        (
            "valkey+cluster://a.example:1,b.example:2",
            ["use rediss://", "require one, and put it in the URI"],
        ),
        ("rediss://:secret@cache.example", []),
        ("redis://localhost", []),
        ("redis://[::1]", []),
        ("redis://127.0.0.1:6379/0?on_outage=allow", ["remove it"]),
        ("redis://[::1]:6379?on_data_loss=accept", ["remove it"]),
        ("unix:///run/redis.sock", []),
    ],
)
def test_what_an_address_says(quart_line, monkeypatch, uri, fixes):
    monkeypatch.setattr("async_jwt.stores.redis.RedisStore.start", _nothing)
    quart_line.make(secret=GOOD, JWT_STORE_URI=uri, JWT_DEFAULT_DENY=True)
    findings = quart_line.json("doctor")
    assert [finding["fix"] for finding in findings] == fixes
    assert "secret@" not in str(findings)


async def _nothing(self):
    pass


class Other:
    """A store of an application's own, which may say how it fares."""

    def __init__(self, **status):
        if status:
            self.status = lambda: StoreStatus(available=True, since=0, **status)

    async def start(self):
        pass

    close = start


@pytest.mark.parametrize(
    ("ahead", "level", "what"),
    [
        (5.2, "warning", "the store's clock is 5 seconds ahead of this machine's"),
        (-30, "error", "the store's clock is 30 seconds behind this machine's"),
        (1, None, None),
    ],
)
def test_clocks_that_differ(quart_line, ahead, level, what):
    quart_line.make(secret=GOOD, JWT_DEFAULT_DENY=True, manager={"store": Other(clock_ahead=ahead)})
    findings = quart_line.json("doctor")
    assert [(finding["level"], finding["what"]) for finding in findings] == (
        [] if level is None else [(level, what)]
    )


def test_a_store_that_says_nothing(quart_line):
    quart_line.make(secret=GOOD, JWT_DEFAULT_DENY=True, manager={"store": Other()})
    assert quart_line.json("doctor") == []


def test_keys_that_others_can_read_or_that_nobody_follows(sound, tmp_path):
    folder = tmp_path / "keys"
    file = KeyFolder(folder).put(Key.generate("ES256", "last", accepted_until=sound.clock.now + 3 * 86400))
    sound.sound(secret=None, JWT_KEY_FOLDER=str(folder))
    assert found(sound) == [
        {
            "level": "warning",
            "about": "keys",
            "what": "the key last expires in less than a week and has no successor",
            "fix": "add the next one: `keys rotate`",
        }
    ]
    assert sound("keys", "rotate").exit_code == 0
    sound.clock.now += 61
    assert found(sound) == []
    file.chmod(0o640)
    (finding,) = found(sound)
    assert (finding["level"], finding["fix"]) == ("warning", f"chmod 600 {file}, unless intended")
    for mode in (0o604, 0o620):
        file.chmod(mode)
        (finding,) = found(sound)
        assert (finding["level"], finding["fix"]) == ("error", f"chmod 600 {file}")
    file.chmod(0o600)
    folder.chmod(0o770)
    (finding,) = found(sound)
    assert (finding["level"], finding["fix"]) == ("error", f"chmod go-w {folder}")


def test_keys_whose_time_is_over(sound, tmp_path):
    KeyFolder(tmp_path / "keys").put(Key.generate("ES256", "over", accepted_until=sound.clock.now - 1))
    sound.sound(secret=None, JWT_KEY_FOLDER=str(tmp_path / "keys"))
    assert [(finding["level"], finding["fix"]) for finding in found(sound)] == [
        ("error", "create one: `keys rotate`")
    ]


def test_every_secret_is_judged(sound):
    sound.sound(secret=None, SECRET_KEY=GOOD, SECRET_KEY_FALLBACKS=["changeme-" * 8, "b" * 64])
    assert {finding["about"] for finding in found(sound)} == {
        "JWT_SECRET_KEY",
        "SECRET_KEY_FALLBACKS[0]",
        "SECRET_KEY_FALLBACKS[1]",
    }
    ring = KeyRing(Key("my-super-secret-for-local-use-only-12345", kid="mine"))
    sound.make(secret=None, manager={"keys": ring})
    (finding,) = [finding for finding in sound.json("doctor") if "tutorial" in finding["what"]]
    assert finding["about"] == "the key mine"


def test_good_secrets_are_not_blamed():
    """In random letters a short word turns up now and then."""
    for secret in (
        "x7Ksecretq9" * 6,
        "dev-ops_jwt-" + "Qx93kLm2" * 6,
        *(secrets.token_urlsafe(64) for _ in range(2000)),
    ):
        assert list(_of_secret(Key(secret), Settings.from_config({}))) == [], secret


def test_a_service_of_another_issuers_tokens(sound):
    public = Key.generate("ES256")._public
    sound.sound(
        secret=None,
        JWT_ALGORITHM="ES256",
        JWT_PUBLIC_KEY=public,
        JWT_DECODE_ISSUER="https://login.example/",
        JWT_DECODE_AUDIENCE="my-api",
    )
    assert found(sound) == []


def test_a_folder_without_keys(sound, tmp_path):
    sound.sound(secret=None, JWT_KEY_FOLDER=str(tmp_path / "none"))
    for arguments in ([], ["--identity", "alice"]):
        sound.clock.now += 60  # when the folder is read again
        (finding,) = found(sound, *arguments)
        assert (finding["level"], finding["about"]) == ("error", "keys")
        assert "create its first key with `keys new`" in finding["what"]


def test_keys_of_loaders_are_not_judged(sound):
    app = sound.sound()
    sound.jwt.decode_key_loader(lambda header, claims: "d" * 64)
    sound.jwt.encode_key_loader(lambda identity: "d" * 64)
    app.config["JWT_SECRET_KEY"] = "a" * 64
    assert found(sound) == []


def test_an_application_that_only_verifies(quart_line):
    public = Key(Key.generate("ES256")._public, "ES256")
    manager = {"keys": KeyRing(None, [public]), "store": Other()}
    quart_line.make(JWT_DEFAULT_DENY=True, manager=manager)
    assert quart_line.json("doctor") == []
    (finding,) = quart_line.json("doctor", "--identity", "alice")
    assert (finding["about"], finding["what"][:35]) == ("hooks", "There is no key to sign with now: s")


def test_a_ring_of_ones_own(quart_line):
    manager = {"keys": KeyRing(Key.generate("ES256")), "store": Other()}
    quart_line.make(JWT_DEFAULT_DENY=True, manager=manager)
    assert quart_line.json("doctor") == []


@pytest.mark.parametrize(
    ("hook", "function", "what"),
    [
        (
            "token_verification",
            lambda header, claims: None,
            (
                "this user's token is refused with 500 hook_error: token_verification_loader returned NoneType; it "
                "must return True or False"
            ),
        ),
        (
            "token_in_blocklist",
            lambda header, claims: 0,
            (
                "this user's token is refused with 500 hook_error: token_in_blocklist_loader returned int; it must "
                "return True or False"
            ),
        ),
        (
            "additional_claims",
            lambda identity: ["admin"],
            (
                "this user's token is refused with 500 hook_error: additional_claims_loader returned list; it must "
                "return a dict"
            ),
        ),
        (
            "user_lookup",
            lambda header, claims: None,
            "this user's token is refused with 401 user_not_found: user_lookup returned None for 'alice'",
        ),
        ("user_lookup", lambda header, claims: {}["gone"], "a hook raised KeyError"),
        (
            "encode_key",
            lambda identity: "short",
            "hook_error: encode_key_loader: The secret for HS256 is 5 bytes",
        ),
    ],
)
def test_hooks_that_return_the_wrong_thing(sound, hook, function, what):
    sound.sound()
    getattr(sound.jwt, f"{hook}_loader")(function)
    assert found(sound) == []  # they are the application's own code, and asked on demand
    (finding,) = found(sound, "--identity", "alice")
    assert finding["level"] == "error"
    assert what in finding["what"]
    assert "short" not in finding["what"]


def test_cookies_that_reach_their_views(sound):
    paths = {"JWT_REFRESH_COOKIE_PATH": "/auth", "JWT_ACCESS_COOKIE_PATH": "/api/v1/"}
    sound.sound(**COOKIES, **paths)
    guard = sound.api.jwt_required
    for rule, options in (("/auth/refresh", {"refresh": True}), ("/api/<version>/me", {})):
        sound.app.add_url_rule(rule, rule, guard(**options)(lambda **_: {}))
    assert found(sound) == []
    sound.app.config["APPLICATION_ROOT"] = "/shop"
    sound.app.config["JWT_REFRESH_COOKIE_PATH"] = "/shop/auth"
    assert found(sound) == []


def test_what_no_time_limit_can_interrupt(sound):
    sound.sound(JWT_HOOK_TIMEOUT=2)

    @sound.jwt.user_lookup_loader
    def load(_header, claims):
        return claims["sub"]

    @sound.jwt.token_verification_loader
    async def verify(_header, _claims):
        return True

    is_flask = hasattr(sound.app, "wsgi_app")
    said = ["it cannot interrupt sync hooks in sync views: user_lookup_loader"] if is_flask else []
    assert [finding["what"] for finding in found(sound)] == said


def test_a_user_that_is_not_there(sound):
    sound.sound()
    sound.jwt.user_identity_loader(lambda user: user["id"])
    (finding,) = found(sound, "--identity", "alice")
    assert finding["what"].endswith("found no user 'alice'")
    assert finding["fix"] == "pass an existing user"


def test_what_a_hooks_exception_says_stays_unsaid(sound):
    sound.sound()

    @sound.jwt.user_lookup_loader
    def user_of(header, claims):
        raise RuntimeError("postgresql://app:a-password-of-theirs@db")

    result = sound("doctor", "--identity", "alice")
    assert "a hook raised RuntimeError" in result.output
    assert "a-password-of-theirs" not in result.output


def test_the_compat_preset_is_not_blamed_for_what_it_is(sound):
    sound.sound(JWT_COMPAT="flask-jwt-extended", JWT_COOKIE_SECURE=True, **COOKIES)
    assert found(sound) == []
