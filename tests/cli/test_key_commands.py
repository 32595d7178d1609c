"""`jwt keys`: the life of a key, as an operator sees it."""

from __future__ import annotations

import base64
import json
import stat

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

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
        "first expires: 2027-02-14 08:10:00 UTC (in 30 days)\n"
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
        "Error: stolen is the signing key: replace it first, with `keys rotate --now`\n",
    )
    result = keyed("keys", "rotate", "--now", "--retain", "0", "--kid", "new", "--algorithm", "EdDSA")
    assert result.output == (
        "new signs with EdDSA from 2027-01-15 08:00:00 UTC (now)\n"
        "stolen expires: 2027-01-15 08:00:00 UTC (now)\n"
    )
    assert states(keyed) == {"stolen": "retired", "new": "signs"}
    keyed.clock.now += 61  # until then this process, which has the keys already, asks no folder
    assert keyed("token", "inspect", token).exit_code == 1
    assert signing_kid(keyed) == "new"


def test_a_key_is_retired_by_hand(keyed):
    keyed("keys", "new", "--kid", "first")
    keyed("keys", "rotate", "--now", "--kid", "second")
    assert keyed("keys", "retire", "first", "--after", "1h").output == (
        "first expires: 2027-01-15 09:00:00 UTC (in 1 hour)\n"
    )
    keyed("keys", "retire", "first", "--after", "2h")  # which lengthens nothing
    keyed.clock.now += 3600
    assert states(keyed) == {"first": "retired", "second": "signs"}
    assert keyed("keys", "retire", "nobody").output == (
        "Error: Key nobody not found: run `keys list` to see all keys\n"
    )


def test_what_comes_one_after_the_other_is_refused(keyed, folder):
    keyed("keys", "new", "--kid", "first")
    assert keyed("keys", "new").output == (
        f"Error: {folder} already contains keys: add the next one with `keys rotate`\n"
    )
    assert keyed("keys", "rotate", "--kid", "first").output == "Error: Key first already exists\n"
    keyed("keys", "rotate", "--kid", "second", "--announce", "1h")
    assert keyed("keys", "rotate").output == (
        "Error: second is already announced and signs from 2027-01-15 09:00:00 UTC (in 1 hour)\n"
    )
    assert keyed("keys", "rotate", "--kid", "third", "--now").exit_code == 0
    # Whoever read one key of the folder read all of them.
    assert states(keyed) == {"first": "accepted", "second": "retired", "third": "signs"}
    assert keyed("keys", "rotate", "--now", "--announce", "5m").output == (
        "Error: --now means --announce 0: pass only one of them\n"
    )


def test_tokens_that_never_expire_keep_their_key(keyed):
    keyed.app.config["JWT_REFRESH_TOKEN_EXPIRES"] = False
    keyed("keys", "new", "--kid", "first")
    assert keyed("keys", "rotate", "--kid", "second").output.splitlines()[1] == "first expires: never"


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


@pytest.mark.parametrize("algorithm", ["ES256", "HS256", "RS256"])
def test_tokens_of_a_key_that_is_taken_along_are_accepted_as_before(line, folder, tmp_path, algorithm):
    key = Key.generate(algorithm)
    text = tmp_path / "key"
    if algorithm == "HS256":
        text.write_text("a secret of before that is long enough for it")
        line.make(secret=text.read_text())
    else:
        text.write_bytes(key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        line.make(secret=None, JWT_ALGORITHM=algorithm, JWT_PRIVATE_KEY=text.read_text())
    before = line("token", "create", "alice").stdout.strip()
    line.make(secret=None, JWT_KEY_FOLDER=str(folder))
    assert line("keys", "new", "--from", str(text), "--algorithm", algorithm).exit_code == 0
    assert line("token", "inspect", before).exit_code == 0
    line("keys", "rotate", "--now", "--algorithm", "EdDSA")
    line.clock.now += 61
    assert line("token", "inspect", before).exit_code == 0


def test_a_rotation_that_was_a_mistake_is_undone(keyed):
    keyed("keys", "new", "--kid", "first")
    keyed("keys", "rotate", "--kid", "mistake")
    assert keyed("keys", "retire", "mistake", "--after", "1h").output == (
        "mistake expires: 2027-01-15 08:00:00 UTC (now)\nfirst keeps signing and never expires\n"
    )
    keyed.clock.now += 3600
    assert states(keyed) == {"first": "signs", "mistake": "retired"}
    assert keyed.json("keys", "list")[0]["accepted_until"] is None
    assert keyed("keys", "rotate", "--kid", "second").exit_code == 0
    assert states(keyed) == {"first": "signs", "mistake": "retired", "second": "announced"}
    # One that has signed is retired for good, and changes nothing about others.
    keyed.clock.now += 3600
    assert "keeps signing" not in keyed("keys", "retire", "first").output


def test_a_folder_whose_keys_are_all_over_gets_a_new_one(keyed, folder):
    KeyFolder(folder).put(Key.generate("ES384", "over", accepted_until=keyed.clock.now - 1))
    assert keyed("keys", "rotate", "--kid", "new").output == (
        "new signs with ES384 from 2027-01-15 08:00:00 UTC (now)\n"
    )
    assert states(keyed) == {"over": "retired", "new": "signs"}


def test_a_rotation_that_breaks_off_says_what_is_left_to_do(keyed, folder, monkeypatch):
    keyed("keys", "new", "--kid", "first")
    put, written = KeyFolder.put, []

    def full(self, key):
        written.append(key.kid)
        if len(written) == 2:
            raise ConfigurationError(f"The key folder {folder} cannot be written to: No space left on device")
        return put(self, key)

    monkeypatch.setattr(KeyFolder, "put", full)
    result = keyed("keys", "rotate", "--now", "--retain", "0", "--kid", "second")
    assert written == ["second", "first"]
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == (
        f"Error: The key folder {folder} cannot be written to: No space left on device. Once fixed, run "
        "`keys retire first`"
    )


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
    missing = f"Error: The key folder {folder} cannot be read: No such file or directory: create its first key with `keys new`\n"
    assert keyed("keys", "list").output == missing
    folder.mkdir()
    assert keyed("keys", "list").output == "Error: The key folder is empty: create a key with `keys new`\n"
    line.make()
    assert line("keys", "new").output == (
        "Error: This application has no key folder: set JWT_KEY_FOLDER, or pass --folder. "
        "To use JWT_SECRET_KEY instead, generate a secret with secrets.token_hex(64)\n"
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
    line.api.JWTManager(line.app, keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=load))
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


@pytest.mark.parametrize("algorithm", ["none", "HS255", "", "RS", "es256"])
def test_algorithms_that_are_none(algorithm):
    with pytest.raises(ConfigurationError, match="is not a signature algorithm; choose one of HS256"):
        Key.generate(algorithm)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON Web Key"),
        ("[" * 100_000, "not JSON"),
        ("{}", "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": "none"}', "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": 5}', "The JSON Web Key must name its alg: one of HS256, "),
        ('{"alg": "ES256", "kty": "EC"}', "The key for ES256 must be a PEM or `cryptography` key fit for it"),
        ('{"alg": "HS256", "kty": "oct"}', "The key for HS256 must be an HMAC secret fit for it"),
        ('{"alg": "HS256", "kty": "oct", "k": "%s"}' % ("QUJD" * 20), "a secret needs a kid"),
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
    with pytest.raises(ConfigurationError, match=r"cannot be put into a key folder: it needs an id$"):
        KeyFolder(folder).put(Key("s" * 64))


def test_a_write_that_fails_leaves_all_as_it_was(folder, monkeypatch):
    KeyFolder(folder).put(Key.generate("ES256", "first"))
    before = {file.name: file.read_text() for file in folder.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written to: No space left on device"):
        KeyFolder(folder).put(Key.generate("ES256", "first"))
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_each_key_has_a_file_of_its_own(folder):
    kids = ["a/b", "a_b", "a.b", "x" * 200, "x" * 201]
    for kid in kids:
        KeyFolder(folder).put(Key.generate("ES256", kid))
    assert sorted(key.kid for key in KeyFolder(folder)()) == sorted(kids)


def test_who_may_read_a_file_stays_as_it_is(folder, monkeypatch):
    """Root rotates, and the service reads on."""
    owners = []
    monkeypatch.setattr("shutil.chown", lambda name, user, group: owners.append((user, group)))
    key = Key.generate("ES256", "one")
    file = KeyFolder(folder).put(key)
    file.chmod(0o640)
    KeyFolder(folder).put(key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert owners == [(folder.stat().st_uid, folder.stat().st_gid)] * 2

    def refused(*_):
        raise PermissionError

    monkeypatch.setattr("shutil.chown", refused)
    KeyFolder(folder).put(key)


def test_public_keys_and_members_of_others_are_kept(keyed, folder):
    keyed("keys", "new", "--kid", "own")
    other = {**Key.generate("ES256", "theirs").public_jwk(), "x5t": "of others", "signs_from": 5}
    file = folder / "theirs.jwk"
    file.write_text(json.dumps(other))
    assert keyed("keys", "retire", "theirs", "--after", "1h").exit_code == 0
    assert json.loads(file.read_text()) == {**other, "accepted_until": keyed.clock.now + 3600}


def test_a_folder_and_a_ring_exclude_each_other(line, folder):
    with pytest.raises(ConfigurationError) as caught:
        line.make(secret=None, JWT_KEY_FOLDER=str(folder), manager={"keys": KeyRing(Key.generate())})
    assert str(caught.value) == (
        "Set JWT_KEY_FOLDER or pass JWTManager(keys=...), not both: only one can hold the keys"
    )


def test_folders_that_cannot_be(line):
    result = line("keys", "new", "--folder", "x" * 300)
    assert (result.exit_code, result.output) == (
        2,
        f"Error: The key folder {'x' * 300} cannot be read: File name too long\n",
    )


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
        f"JWT_KEY_FOLDER holds all keys, so {key} must not be set: put its key into the folder with `keys new --from`"
    )


@pytest.mark.parametrize("value", [5, b"keys", "a\0b", ["keys"]])
def test_what_is_no_folder(line, value):
    with pytest.raises(ConfigurationError, match="JWT_KEY_FOLDER must be a path"):
        line.make(secret=None, JWT_KEY_FOLDER=value)


def test_ids_that_others_chose_do_nothing_to_a_terminal(line, folder):
    """A key folder may be filled by others; what is printed is text."""
    odd = "\x1b[2J\x1b]0;owned\x07"
    KeyFolder(folder).put(Key.generate("ES256", odd))
    for arguments in (("list",), ("retire", odd), ("retire", f"{odd}2"), ("rotate", "--now")):
        result = line("keys", *arguments, "--folder", str(folder))
        assert "\x1b" not in result.output, arguments
        assert "\\x1b[2J" in result.output, arguments


def test_sessions_and_findings_do_nothing_to_a_terminal(line, redis_url):
    odd = "\x1b]0;owned\x07"
    line.make(JWT_STORE_URI=f"{redis_url}?prefix=terminal:", **{f"JWT_{odd}": 1})
    for arguments in (("revoke", "session", odd), ("revoke", "user", odd), ("doctor",)):
        output = line(*arguments).output
        assert "\x1b" not in output
        assert "\\x1b" in output


def test_a_time_that_running_processes_cannot_keep(keyed):
    keyed("keys", "new", "--kid", "first")
    result = keyed("keys", "rotate", "--announce", "20s", "--kid", "second")
    assert "second signs with ES256 from 2027-01-15 08:00:20 UTC" in result.output
    assert "once a minute: some switch as late as 2027-01-15 08:01:00 UTC" in result.output
