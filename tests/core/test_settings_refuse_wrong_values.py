"""Settings: what each key takes, and that a wrong value names its key."""

from __future__ import annotations

import datetime as dt

import flask
import flask_jwt_extended
import pytest

from async_jwt.app_state import LiveSettings
from async_jwt.core.settings import SPECS, Settings
from async_jwt.errors import ConfigurationError

FJE_KEYS = """
JWT_ACCESS_TOKEN_EXPIRES JWT_REFRESH_TOKEN_EXPIRES JWT_ALGORITHM JWT_DECODE_ALGORITHMS
JWT_SECRET_KEY JWT_PRIVATE_KEY JWT_PUBLIC_KEY JWT_IDENTITY_CLAIM JWT_VERIFY_SUB
JWT_DECODE_AUDIENCE JWT_ENCODE_AUDIENCE JWT_DECODE_ISSUER JWT_ENCODE_ISSUER JWT_DECODE_LEEWAY
JWT_ENCODE_NBF JWT_ERROR_MESSAGE_KEY JWT_TOKEN_LOCATION JWT_HEADER_NAME JWT_HEADER_TYPE
JWT_QUERY_STRING_NAME JWT_QUERY_STRING_VALUE_PREFIX JWT_JSON_KEY JWT_REFRESH_JSON_KEY
JWT_ACCESS_COOKIE_NAME JWT_REFRESH_COOKIE_NAME JWT_ACCESS_COOKIE_PATH JWT_REFRESH_COOKIE_PATH
JWT_COOKIE_SECURE JWT_COOKIE_DOMAIN JWT_COOKIE_SAMESITE JWT_SESSION_COOKIE
JWT_COOKIE_CSRF_PROTECT JWT_CSRF_METHODS JWT_CSRF_IN_COOKIES JWT_CSRF_CHECK_FORM
JWT_ACCESS_CSRF_COOKIE_NAME JWT_REFRESH_CSRF_COOKIE_NAME JWT_ACCESS_CSRF_COOKIE_PATH
JWT_REFRESH_CSRF_COOKIE_PATH JWT_ACCESS_CSRF_HEADER_NAME JWT_REFRESH_CSRF_HEADER_NAME
JWT_ACCESS_CSRF_FIELD_NAME JWT_REFRESH_CSRF_FIELD_NAME
"""


def test_every_fje_key_is_a_setting():
    keys = {spec.metadata["key"] for spec in SPECS}
    assert set(FJE_KEYS.split()) <= keys


def test_settings_know_which_of_them_flask_jwt_extended_lacks():
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = "x" * 64
    flask_jwt_extended.JWTManager(app)
    theirs = {key for key in app.config if key.startswith("JWT_")} | {"JWT_VERIFY_SUB"}
    for spec in SPECS:
        key = spec.metadata["key"]
        if key.startswith("JWT_"):
            assert spec.metadata["new"] == (key not in theirs), key


def test_compat_preset_is_fjes_defaults():
    settings = Settings.from_config({"JWT_COMPAT": "flask-jwt-extended"})
    assert settings.is_compat
    assert settings.invalid_token_status == 422
    assert settings.cookie_samesite is None
    assert not settings.cookie_secure
    assert settings.session_cookie
    assert (settings.expiry_leeway, settings.start_leeway) == (0, 0)
    assert not settings.strict_locations
    default = Settings.from_config({})
    assert (default.expiry_leeway, default.start_leeway) == (0, 10)


ACCEPTED = {
    "JWT_ACCESS_TOKEN_EXPIRES": [60, 0.5, dt.timedelta(1), False, -1],
    "JWT_DECODE_LEEWAY": [None, 0, 5, 2.5, dt.timedelta(seconds=3)],
    "JWT_TOKEN_LOCATION": ["cookies", ["headers"], ("json", "headers"), {"cookies", "headers"}],
    "JWT_CSRF_METHODS": [[], ["post"], {"PUT"}, "DELETE"],
    "JWT_COOKIE_SAMESITE": [None, "lax", "STRICT", "None"],
    "JWT_DECODE_AUDIENCE": [None, "a", ["a", "b"]],
    "JWT_TRUSTED_ORIGINS": [None, "https://a.example", ["https://a.example/", "http://b:81"]],
    "JWT_HEADER_TYPE": ["", "JWT"],
    "JWT_COOKIE_DOMAIN": [
        None,
        "",
        "example.com",
        ".example.com",
        "localhost",
        "127.0.0.1",
        "bücher.example",
    ],
    "JWT_IGNORED_SETTINGS": [(), [], "JWT_MINE", ["JWT_MINE", "JWT_OTHER"]],
    "JWT_HOOK_TIMEOUT": [None, 1, 0.5],
    "JWT_SECRET_KEY": [None, "", "text", b"bytes"],
    "SECRET_KEY_FALLBACKS": [None, [], ["a", b"b"], ("a",)],
    "JWT_MIN_SECRET_BYTES": [None, 0, 16],
    "JWT_REFRESH_GRACE": [0, 10, 0.5, dt.timedelta(seconds=5), "until_used"],
    "JWT_SESSION_MAX_AGE": [None, 60, dt.timedelta(days=90)],
    "JWT_MAX_SESSIONS": [None, 1, 1000],
}
REFUSED = {
    "JWT_REFRESH_GRACE": [-1, None, "10", "until used", True],
    "JWT_SESSION_MAX_AGE": [0, -1, "1", False],
    "JWT_MAX_SESSIONS": [0, -1, "1", 1.5, True],
    "JWT_COMPAT": ["fje", 1],
    "JWT_ACCESS_TOKEN_EXPIRES": [0, dt.timedelta(0), True, "15m", None],
    "JWT_REFRESH_TOKEN_EXPIRES": [0, "a", 1e20],
    "JWT_DECODE_LEEWAY": [-1, "5", True],
    "JWT_TOKEN_LOCATION": [None, [], "header", ["headers", 1], b"headers", {"headers": 1}, 7],
    "JWT_CSRF_METHODS": [None, [1], b"POST"],
    "JWT_COOKIE_SAMESITE": ["", "lacks", True],
    "JWT_COOKIE_SECURE": [None, 1, "yes"],
    "JWT_COOKIE_PREFIX": [None, "__host-"],
    "JWT_HEADER_NAME": ["", None, 5, "a b", "a:"],
    "JWT_HEADER_TYPE": [None, 5],
    "JWT_HOOK_TIMEOUT": [0, -1, "1"],
    "JWT_SECRET_KEY": [5, ["a"]],
    "SECRET_KEY_FALLBACKS": ["text", [""], [1]],
    "JWT_MIN_SECRET_BYTES": [-1, True, 1.5, "16"],
    "JWT_TOKEN_CACHE_SIZE": [None, -1],
    "JWT_INVALID_TOKEN_STATUS": [200, 500, "401"],
    "JWT_TRUSTED_ORIGINS": [
        *("app.example", "https://a.example/path", "://x", [1], "*", "https://*.example.com"),
        *("https://a.example?q", "https://me@a.example", "https://a.example https://b.example"),
    ],
    "JWT_COOKIE_DOMAIN": ["https://app.example", "app.example:443", "app.example/", "a b", "*.example", 7],
    "JWT_IGNORED_SETTINGS": [None, [1], 7],
    "JWT_ERROR_FORMAT": ["json", None],
    "JWT_DECODE_AUDIENCE": ["", [], 5, [1]],
    "JWT_DECODE_ISSUER": ["", [], 5],
    "JWT_ALGORITHM": ["none", "HS265", None],
    "JWT_DECODE_ALGORITHMS": [["none"], ["HS256", "x"], 5],
    "JWT_ACCESS_COOKIE_NAME": ["a;b", "a b", "", None],
    "JWT_ENCODE_AUDIENCE": [5, [1]],
    "JWT_ENCODE_ISSUER": [5],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, all_ in ACCEPTED.items() for value in all_])
def test_accepted(key, value):
    Settings.from_config({key: value})


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, all_ in REFUSED.items() for value in all_])
def test_refused_with_the_name(key, value):
    with pytest.raises(ConfigurationError, match=key):
        Settings.from_config({key: value})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": False}, "JWT_COOKIE_SECURE"),
        ({"JWT_COOKIE_PARTITIONED": True, "JWT_COOKIE_SECURE": False}, "JWT_COOKIE_PARTITIONED"),
        ({"JWT_COOKIE_PREFIX": "__Secure-", "JWT_COOKIE_SECURE": False}, "JWT_COOKIE_PREFIX"),
        ({"JWT_COOKIE_PREFIX": "__Host-", "JWT_COOKIE_DOMAIN": "a.example"}, "JWT_COOKIE_DOMAIN"),
        ({"JWT_COOKIE_PREFIX": "__Host-", "JWT_REFRESH_COOKIE_PATH": "/r"}, "JWT_REFRESH_COOKIE_PATH"),
    ],
)
def test_values_that_do_not_go_together(config, name):
    with pytest.raises(ConfigurationError, match=name):
        Settings.from_config(config)


def test_a_set_of_locations_gets_an_order():
    settings = Settings.from_config({"JWT_TOKEN_LOCATION": {"json", "headers"}})
    assert settings.token_location == ("headers", "json")


def test_the_applications_list_is_left_alone():
    algorithms = ["HS512"]
    settings = Settings.from_config({"JWT_DECODE_ALGORITHMS": algorithms})
    assert settings.accepted_algorithms == ("HS256", "HS512")
    assert algorithms == ["HS512"]


COMPAT = {"JWT_COMPAT": "flask-jwt-extended"}
MISSPELLED = {
    "JWT_DEFAULT_DENNY": "JWT_DEFAULT_DENY",
    "JWT_DEFALUT_DENY": "JWT_DEFAULT_DENY",
    "JWT_DEFAULT_DEN": "JWT_DEFAULT_DENY",
    "JTW_DEFAULT_DENY": "JWT_DEFAULT_DENY",
    "JWTDEFAULT_DENY": "JWT_DEFAULT_DENY",
    "JWT_STORE_URL": "JWT_STORE_URI",
    "JWT_HOOK_TIME_OUT": "JWT_HOOK_TIMEOUT",
    "JWT_TRUSTED_ORIGIN": "JWT_TRUSTED_ORIGINS",
    "JWT_REFRESH_GRACE_": "JWT_REFRESH_GRACE",
}
MISSPELLED_THERE = {
    "JWT_ACCES_TOKEN_EXPIRES": "JWT_ACCESS_TOKEN_EXPIRES",
    "JWT_SECRETKEY": "JWT_SECRET_KEY",
    "JWT_SECERT_KEY": "JWT_SECRET_KEY",
    "JWT_CSRF_METHOD": "JWT_CSRF_METHODS",
    "JWT_COOKIE_SECUR": "JWT_COOKIE_SECURE",
}
DERIVED = ["JWT_ALGORITHMS", "JWT_ACCESS_TOKEN_EXPIRES_MINUTES", "JWT_REFRESH_TOKEN_EXPIRES_DAYS"]
OTHER = ["JWT_ISSUER", "JWT_AUTH_URL_RULE", "JWT_COOKIE_CSRF_PROTECTION"]
# A whole word that differs is no typing error, nor is a number.
OTHER += ["JWT_PUBLIC_KID", "JWT_PRIVATE_KID", "JWT_SECRET_KID", "JWT_PUBLIC_PEM", "JWT_VERIFY_AUD"]
OTHER += ["JWT_SECRET_KEY2", "JWT_PUBLIC_KEY2", "JWT_JWKS_MIN_AGE", "JWT_MIN_TOKEN_BYTES"]


@pytest.mark.parametrize("preset", [{}, COMPAT])
@pytest.mark.parametrize(("key", "meant"), MISSPELLED.items())
def test_a_misspelled_setting_is_refused_with_the_right_name(key, meant, preset):
    with pytest.raises(
        ConfigurationError, match=rf"{key} is not a setting. Did you mean {meant}\?"
    ) as refused:
        LiveSettings({key: True, **preset})
    assert f'JWT_IGNORED_SETTINGS = ["{key}"]' in str(refused.value)
    LiveSettings({key: True, "JWT_IGNORED_SETTINGS": [key], **preset})


@pytest.mark.parametrize(("key", "meant"), MISSPELLED_THERE.items())
def test_what_flask_jwt_extended_ignores_the_preset_names(key, meant, caplog):
    with pytest.raises(ConfigurationError, match=meant):
        LiveSettings({key: 1})
    assert caplog.records == []
    LiveSettings({key: 1, **COMPAT})
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{key} is not a setting. Did you mean {meant}?")


@pytest.mark.parametrize("key", [*DERIVED, *OTHER])
def test_other_settings_that_nothing_reads_are_named_once(key, caplog):
    config = {key: 1}
    live = LiveSettings(config)
    config["JWT_JSON_KEY"] = "token"
    assert live.current().json_key == "token"
    (record,) = caplog.records
    assert (
        record.getMessage() == f'Nothing reads {key}. If it is your own, set JWT_IGNORED_SETTINGS = ["{key}"]'
    )
    assert record.event == "unknown_setting"
    assert [unknown.key for unknown in live.unknown] == [key]
    config["JWT_IGNORED_SETTINGS"] = [key]
    live.current()
    assert live.unknown == ()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("JWT_BLACKLIST_ENABLED", "token_in_blocklist_loader"),
        ("JWT_BLACKLIST_TOKEN_CHECKS", "token_in_blocklist_loader"),
        ("JWT_USER_CLAIMS", "get_jwt()"),
        ("JWT_CLAIMS_IN_REFRESH_TOKEN", "always"),
        ("JWT_CSRF_HEADER_NAME", "JWT_ACCESS_CSRF_HEADER_NAME"),
        ("JWT_VERIFY_AUDIENCE", "JWT_DECODE_AUDIENCE"),
    ],
)
def test_settings_of_former_versions_say_what_replaced_them(key, instead, caplog):
    for preset in ({}, COMPAT):
        caplog.clear()
        LiveSettings({key: True, **preset})
        (record,) = caplog.records
        assert record.getMessage().startswith(f"Nothing reads {key} any more: ")
        assert instead in record.getMessage()


def test_settings_of_others_are_none_of_our_business(caplog):
    LiveSettings({"JSON_SORT_KEYS": True, "JSONIFY_MIMETYPE": "x", "JWKS": 1, "SECRET_KEYS": "x", 5: 1})
    assert caplog.records == []


def test_a_setting_that_is_misspelled_later_is_refused_then():
    config = {}
    live = LiveSettings(config)
    config["JWT_DEFAULT_DENNY"] = True
    with pytest.raises(ConfigurationError, match="JWT_DEFAULT_DENY"):
        live.current()


@pytest.mark.parametrize(
    ("key", "value", "how"),
    [
        ("JWT_COOKIE_SECURE", "False", "in the environment write true, false or null"),
        ("JWT_DEFAULT_DENY", "yes", "in the environment write true, false or null"),
        ("JWT_HOOK_TIMEOUT", "None", "in the environment write true, false or null"),
        ("JWT_TOKEN_LOCATION", "headers,cookies", 'a JSON list, such as ["headers", "cookies"]'),
        ("JWT_TOKEN_LOCATION", "['headers']", 'a JSON list, such as ["headers", "cookies"]'),
        ("JWT_SECRET_KEY", 12345678901234567890123456789012, "put it in quotes"),
        ("JWT_ENCODE_ISSUER", 42, "put it in quotes"),
        ("JWT_HEADER_NAME", 42, "put it in quotes"),
        ("JWT_HEADER_TYPE", True, "put it in quotes"),
        ("JWT_STORE_URI", 6379, "put it in quotes"),
    ],
)
def test_what_the_environment_got_wrong_says_how_to_write_it(key, value, how):
    with pytest.raises(ConfigurationError, match=f"^{key} ") as refused:
        Settings.from_config({key: value})
    assert how in str(refused.value)
    assert "1234567890" not in str(refused.value), "it may be a secret"


def test_lists_that_the_preset_fills_in_are_the_applications_own():
    """As with Flask-JWT-Extended, whose users add to them."""
    configs = [dict(COMPAT), dict(COMPAT)]
    lives = [LiveSettings(config) for config in configs]
    configs[0]["JWT_CSRF_METHODS"].append("GET")
    assert lives[0].current().csrf_methods == {"POST", "PUT", "PATCH", "DELETE", "GET"}
    assert lives[1].current().csrf_methods == {"POST", "PUT", "PATCH", "DELETE"}
    assert lives[1].is_default("JWT_CSRF_METHODS")
