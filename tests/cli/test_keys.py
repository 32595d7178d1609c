"""`jwt keys`: the life of a key, as an operator sees it."""

from __future__ import annotations

import base64
import json
import stat

import pytest

from async_jwt import Key, KeyFolder, KeyRing
from async_jwt.errors import ConfigurationError

DAY = 86400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def keyed(line, folder):
    """A command line for an application that keeps its keys in a folder."""
    line.make(secret=None, JWT_KEY_FOLDER=str(folder))
    return line


def jwks_of(keyed):
    return [jwk["kid"] for jwk in json.loads(keyed("keys", "jwks").stdout)["keys"]]


def states(keyed):
    return {key["kid"]: key["state"] for key in keyed.json("keys", "list")}


def signing_kid(keyed):
    return kid_of(keyed("token", "create", "alice").stdout)


def kid_of(token):
    head = token.partition(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def test_a_key_is_made_announced_signs_is_retained_and_ends(keyed, folder):
    result = keyed("keys", "new", "--kid", "first")
    assert (result.exit_code, result.output) == (
        0,
        f"first signs with ES256 from now on: {folder}/first.jwk\n",
    )
    assert keyed("keys", "list").output == (
        "Key id  Algorithm  State  Signs from  Accepted until\nfirst   ES256      signs  always      never\n"
    )
    before = keyed("token", "create", "alice", "--expires", "40d").stdout.strip()

    result = keyed("keys", "rotate", "--kid", "second")
    assert result.output == (
        "second signs with ES256 from 2027-01-15 08:10:00 UTC (in 10 minutes)\n"
        "first is accepted until 2027-02-14 08:10:00 UTC (in 30 days)\n"
    )
    assert keyed("keys", "list").output == (
        "Key id  Algorithm  State      Signs from                               Accepted until\n"
        "first   ES256      signs      always                                   2027-02-14 08:10:00 UTC (in 30 days)\n"
        "second  ES256      announced  2027-01-15 08:10:00 UTC (in 10 minutes)  never\n"
    )
    assert sorted(jwks_of(keyed)) == ["first", "second"]
    assert signing_kid(keyed) == "first"

    keyed.clock.now += 600
    assert signing_kid(keyed) == "second"
    assert states(keyed) == {"first": "accepted", "second": "signs"}
    assert keyed("token", "inspect", before).exit_code == 0

    keyed.clock.now += 30 * DAY
    assert states(keyed) == {"first": "retired", "second": "signs"}
    assert jwks_of(keyed) == ["second"]
    result = keyed("token", "inspect", before)
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        1,
        "Refused with 401 token_invalid: Signature verification failed",
    )


def test_a_stolen_key(keyed):
    keyed("keys", "new", "--kid", "stolen")
    token = keyed("token", "create", "alice").stdout.strip()
    result = keyed("keys", "retire", "stolen")
    assert (result.exit_code, result.output) == (
        2,
        "Error: stolen signs now: let another one sign first, with `keys rotate --now`\n",
    )
    result = keyed("keys", "rotate", "--now", "--retain", "0", "--kid", "new", "--algorithm", "EdDSA")
    assert result.output == (
        "new signs with EdDSA from 2027-01-15 08:00:00 UTC (now)\n"
        "stolen is accepted until 2027-01-15 08:00:00 UTC (now)\n"
    )
    assert states(keyed) == {"stolen": "retired", "new": "signs"}
    keyed.clock.now += 61  # until then this process, which has the keys already, asks no folder
    assert keyed("token", "inspect", token).exit_code == 1
    assert signing_kid(keyed) == "new"


def test_a_key_is_retired_by_hand(keyed):
    keyed("keys", "new", "--kid", "first")
    keyed("keys", "rotate", "--now", "--kid", "second")
    assert keyed("keys", "retire", "first", "--after", "1h").output == (
        "first is accepted until 2027-01-15 09:00:00 UTC (in 1 hour)\n"
    )
    keyed("keys", "retire", "first", "--after", "2h")  # which lengthens nothing
    keyed.clock.now += 3600
    assert states(keyed) == {"first": "retired", "second": "signs"}
    assert keyed("keys", "retire", "nobody").output == (
        "Error: There is no key of the id nobody; `keys list` names those there are\n"
    )


def test_what_comes_one_after_the_other_is_refused(keyed, folder):
    keyed("keys", "new", "--kid", "first")
    assert keyed("keys", "new").output == (
        f"Error: {folder} holds keys already: `keys rotate` brings in the next one\n"
    )
    assert (
        keyed("keys", "rotate", "--kid", "first").output == "Error: There is a key of the id first already\n"
    )
    keyed("keys", "rotate", "--kid", "second", "--announce", "1h")
    assert keyed("keys", "rotate").output == (
        "Error: second is announced already, and signs from 2027-01-15 09:00:00 UTC (in 1 hour)\n"
    )
    assert keyed("keys", "rotate", "--kid", "third", "--now").exit_code == 0
    assert states(keyed) == {"first": "accepted", "second": "announced", "third": "signs"}


def test_tokens_that_never_expire_keep_their_key(keyed):
    keyed.app.config["JWT_REFRESH_TOKEN_EXPIRES"] = False
    keyed("keys", "new", "--kid", "first")
    assert (
        keyed("keys", "rotate", "--kid", "second").output.splitlines()[1] == "first is accepted until never"
    )


def test_an_announcement_outlasts_the_jwks_document(keyed):
    keyed.app.config["JWT_JWKS_MAX_AGE"] = 3600
    keyed("keys", "new")
    assert "(in 2 hours)" in keyed("keys", "rotate").output


def test_ids_say_how_old_a_key_is(keyed):
    keyed("keys", "new")
    (key,) = keyed.json("keys", "list")
    assert key["kid"].startswith("2027-01-15-")
    assert key == {**key, "alg": "ES256", "state": "signs", "signs_from": None, "accepted_until": None}


def test_keys_that_are_there_already_are_taken_along(keyed, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret of before that is long enough for it\n")
    result = keyed("keys", "new", "--from", str(secret), "--algorithm", "HS256", "--kid", "old")
    assert result.exit_code == 0
    assert secret.read_text().strip() not in result.output
    assert signing_kid(keyed) == "old"
    assert jwks_of(keyed) == []
    keyed("keys", "rotate", "--algorithm", "ES256", "--kid", "new", "--now")
    assert states(keyed) == {"old": "accepted", "new": "signs"}


def test_without_an_application(line, folder):
    line.app = lambda: pytest.fail("asked")
    where = ("--folder", str(folder))
    assert line("keys", "new", "--kid", "first", *where).exit_code == 0
    assert "(in 10 minutes)" in line("keys", "rotate", "--kid", "second", *where).output
    assert line("keys", "retire", "second", *where).exit_code == 0
    assert states_in(line, where) == {"first": "signs", "second": "retired"}
    assert [jwk["kid"] for jwk in json.loads(line("keys", "jwks", *where).output)["keys"]] == ["first"]


def states_in(line, where):
    return {key["kid"]: key["state"] for key in line.json("keys", "list", *where)}


def test_folders_without_keys(line, folder, keyed):
    missing = f"Error: The key folder {folder} cannot be read: No such file or directory: its first key is made by `keys new`\n"
    assert keyed("keys", "list").output == missing
    folder.mkdir()
    assert keyed("keys", "list").output == "Error: The folder holds no key: make one with `keys new`\n"
    line.make()
    assert line("keys", "new").output == (
        "Error: This application keeps no folder of keys: set JWT_KEY_FOLDER, or name one with --folder. "
        "For a secret alone, JWT_SECRET_KEY, take one from secrets.token_hex(64)\n"
    )


def test_keys_of_settings_and_of_loaders_are_listed(line):
    line.make()
    assert line("keys", "list").output == (
        "Key id  Algorithm  State  Signs from  Accepted until\n(none)  HS256      signs  always      never\n"
    )
    asked = []

    async def load():
        asked.append(1)
        return [Key.generate("HS256", "loaded")]

    line.app.extensions.clear()
    line.api.JWTManager(line.app, keys=KeyRing(load=load))
    assert states(line) == {"loaded": "signs"}
    assert asked == [1]


def test_nothing_secret_is_printed_or_readable(keyed, folder):
    outputs = [keyed("keys", "new", "--kid", "a/../b").output, keyed("keys", "rotate").output]
    outputs += [keyed("keys", "list").output, keyed("keys", "jwks").output]
    files = sorted(folder.iterdir())
    assert files[-1].name == "a____b.jwk"
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secret = json.loads(file.read_text())["d"]
        assert not any(secret in output for output in outputs)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# -- the folder itself


@pytest.mark.parametrize(
    "algorithm", ["HS256", "HS512", "RS256", "PS384", "ES256", "ES384", "ES512", "ES256K", "EdDSA"]
)
def test_keys_stand_in_files_and_are_the_same_when_read(folder, algorithm):
    key = Key.generate(algorithm, signs_from=5, accepted_until=10**9)
    file = KeyFolder(folder).put(key)
    (read,) = KeyFolder(folder)()
    assert (read.kid, read.algorithm, read.fingerprint) == (key.kid, algorithm, key.fingerprint)
    assert (read.signs_from, read.accepted_until) == (5, 10**9)
    assert read.verify(b"message", key.sign(b"message"))
    assert json.loads(file.read_text())["use"] == "sig"
    assert repr(KeyFolder(folder)) == f"<KeyFolder {str(folder)!r}>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is no JSON"),
        ("[]", "it holds no JSON Web Key"),
        ("[" * 100_000, "it is no JSON"),
        ("{}", "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": "none"}', "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": 5}', "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": "ES256", "kty": "EC"}', "The key for ES256 must be a PEM or `cryptography` key fit for it"),
        ('{"alg": "HS256", "kty": "oct"}', "The key for HS256 must be an HMAC secret fit for it"),
        ('{"alg": "HS256", "kty": "oct", "k": "c2hvcnQ"}', "The secret for HS256 is 5 bytes long"),
        (
            '{"alg": "HS256", "kty": "oct", "k": "%s", "kid": 5}' % ("QUJD" * 20),
            "A key id must be a non-empty string",
        ),
        (
            '{"alg": "HS256", "kty": "oct", "k": "%s", "kid": "a", "signs_from": "soon"}' % ("QUJD" * 20),
            "signs_from must be",
        ),
    ],
)
def test_files_that_hold_no_key(folder, text, reason):
    folder.mkdir()
    file = folder / "bad.jwk"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        KeyFolder(folder)()
    assert str(caught.value).startswith(f"The key file {file}: {reason}")
    assert "QUJD" not in str(caught.value)


def test_what_cannot_be_read_or_written(folder, tmp_path):
    folder.mkdir()
    (folder / "folder.jwk").mkdir()
    with pytest.raises(ConfigurationError, match=r"folder\.jwk: Is a directory"):
        KeyFolder(folder)()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be read: Not a directory$"):
        KeyFolder(file)()
    with pytest.raises(ConfigurationError, match="cannot be written to: "):
        KeyFolder(file).put(Key.generate("ES256"))
    for key in (Key("s" * 64), Key(Key.generate("ES256")._public, "ES256")):
        with pytest.raises(
            ConfigurationError, match="cannot be put into a key folder: it needs an id and a private half"
        ):
            KeyFolder(folder).put(key)


def test_a_write_that_fails_leaves_all_as_it_was(folder, monkeypatch):
    KeyFolder(folder).put(Key.generate("ES256", "first"))
    before = {file.name: file.read_text() for file in folder.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written to: No space left on device"):
        KeyFolder(folder).put(Key.generate("ES256", "first"))
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_a_key_keeps_the_file_that_it_has(folder):
    folder.mkdir()
    key = Key.generate("ES256", "mine")
    KeyFolder(folder).put(key).rename(folder / "by-hand.jwk")
    assert KeyFolder(folder).put(key) == folder / "by-hand.jwk"
    assert len(KeyFolder(folder)()) == 1


def test_a_running_process_follows_its_folder(line, folder, tmp_path):
    """What the commands change, a process that serves has within a minute, and nobody is signed out."""
    line.make(secret=None, JWT_KEY_FOLDER=folder)
    assert line("keys", "new", "--kid", "first").exit_code == 0
    token = line("token", "create", "alice").stdout.strip()
    line("keys", "rotate", "--now", "--kid", "second")
    line.clock.now += 61
    after = line("token", "create", "alice").stdout.strip()
    assert (kid_of(token), kid_of(after)) == ("first", "second")
    assert line("token", "inspect", token).exit_code == line("token", "inspect", after).exit_code == 0
    (folder / "junk.jwk").write_text("{")
    line.clock.now += 61
    assert line("token", "inspect", after).exit_code == 0  # what it has stays in use


@pytest.mark.parametrize("key", ["JWT_SECRET_KEY", "JWT_PRIVATE_KEY", "JWT_PUBLIC_KEY"])
def test_a_folder_holds_all_keys(line, folder, key):
    with pytest.raises(ConfigurationError) as caught:
        line.make(secret=None, JWT_KEY_FOLDER=str(folder), **{key: "k" * 64})
    assert str(caught.value) == (
        f"JWT_KEY_FOLDER holds all keys, so {key} must not be set: put its key into the folder, with `keys new --from`"
    )


@pytest.mark.parametrize("value", [5, b"keys", "a\0b", ["keys"]])
def test_what_is_no_folder(line, value):
    with pytest.raises(ConfigurationError, match="JWT_KEY_FOLDER must be a path"):
        line.make(secret=None, JWT_KEY_FOLDER=value)
