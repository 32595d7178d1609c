"""`jwt keys`: the life cycle of the keys in a folder, and the JWKS document."""

from __future__ import annotations

import datetime as dt
import math
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from async_jwt.app_state import AppState
from async_jwt.cli.application import Failure, app_state, in_realm, run
from async_jwt.cli.output import as_json, duration, plain, say, show_json, table, when
from async_jwt.clock import system_clock
from async_jwt.core.sessions import latest_expiry
from async_jwt.errors import ConfigurationError
from async_jwt.keys.folder import KeyFolder
from async_jwt.keys.key import ALGORITHMS, Key
from async_jwt.keys.ring import ActiveKeys, KeyRing

__all__ = ["keys"]

F = TypeVar("F", bound=Callable[..., Any])

# Longer than verifiers cache the JWKS document, and processes the keys of a folder, by default.
_ANNOUNCE = 600.0
_RETAIN = 31 * 86400.0
# Seconds between reads of the folder by a running process, as for any key ring that loads.
_READ_EVERY = 60.0


def _folder_option(command: F) -> F:
    about = "The key folder, instead of the application's JWT_KEY_FOLDER."
    return click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help=about)(
        in_realm(command)
    )


_algorithm_option = click.option(
    "--algorithm", type=click.Choice(ALGORITHMS), help="The algorithm. Default: the previous key's, or ES256."
)


class _Place:
    """A key folder, the time, and the application's settings; None with --folder."""

    def __init__(self, folder: Path | None) -> None:
        bound: AppState | None = None if folder is not None else app_state()
        self.settings = None if bound is None else bound.engine().settings
        named = folder if self.settings is None else self.settings.key_folder
        if named is None:
            raise Failure(
                "This application has no key folder: set JWT_KEY_FOLDER, or pass --folder. "
                "To use JWT_SECRET_KEY instead, generate a secret with secrets.token_hex(64)"
            )
        self.folder = KeyFolder(named)
        self.now: float = system_clock() if bound is None else bound.engine().clock()

    def ring(self) -> KeyRing:
        """Return the keys as server processes hold them."""
        return _ring_of(self.folder())

    def announcement(self) -> float:
        """Return how many seconds to publish a key before it signs."""
        return _ANNOUNCE if self.settings is None else max(_ANNOUNCE, 2 * self.settings.jwks_max_age)

    def end(self, key: Key, moment: float | None) -> None:
        """Accept a key's tokens until `moment` at the latest, and print the result."""
        if moment is not None and moment < key.accepted_until:
            key.accepted_until = moment
            try:
                self.folder.put(key)
            except ConfigurationError as problem:
                raise Failure(f"{problem}. Once fixed, run `keys retire {key.kid}`") from None
        say(f"{key.kid} expires: {when(_finite(key.accepted_until), self.now)}")

    def retained_until(self, start: float, retain: float | None) -> float | None:
        """Return when to stop accepting a key whose successor signs from `start`; None means never."""
        if retain is not None or self.settings is None:
            return start + (_RETAIN if retain is None else retain)
        return latest_expiry(self.settings, start)


@click.group()
def keys() -> None:
    """Create, rotate and retire keys.

    Keys live in a folder, one JSON Web Key per file, which running processes read every minute. A key is
    announced, then signs, then is retained until the last token it signed has expired. Rotation signs no
    user out and needs no restart.
    """


@keys.command()
@_folder_option
@_algorithm_option
@click.option(
    "--kid",
    help="The key ID. Default: the date and random letters; with --from, the ID in a key pair's tokens.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Import an existing key from a file with PEM text or a secret.",
)
def new(folder: Path | None, algorithm: str | None, kid: str | None, source: Path | None) -> None:
    """Create the first key of a folder; it signs at once. Use `rotate` for later keys."""
    place = _Place(folder)
    if not place.folder.is_empty:
        raise Failure(f"{place.folder.path} already contains keys: add the next one with `keys rotate`")
    chosen = algorithm or "ES256"
    if source is None:
        key = Key.generate(chosen, kid or _new_kid(place.now))
    else:
        # A pair keeps the ID that its tokens carry, its thumbprint; tokens of a secret carry none.
        named = _new_kid(place.now) if chosen.startswith("HS") else None
        key = Key.from_file(source, chosen, kid=kid or named)
    file = place.folder.put(key)
    say(f"{key.kid} signs with {key.algorithm} from now on: {file}")


@keys.command("list")
@_folder_option
@as_json
def list_(folder: Path | None, as_json: bool) -> None:
    """List keys, with their state and expiry.

    Without --folder, lists the application's keys, wherever they come from.
    """
    ring, now = _ring_at(folder)
    active = ring.at(now)
    found = [(key, _state(key, active, now)) for key in ring.keys]
    found.sort(key=lambda pair: (pair[0].signs_from, pair[0].kid or ""))
    if as_json:
        show_json(
            [
                {
                    "kid": key.kid,
                    "alg": key.algorithm,
                    "state": state,
                    "signs_from": _finite(key.signs_from),
                    "accepted_until": _finite(key.accepted_until),
                }
                for key, state in found
            ]
        )
        return
    rows = [
        (
            plain(key.kid or "(none)"),
            key.algorithm,
            state,
            when(key.signs_from, now),
            when(key.accepted_until, now),
        )
        for key, state in found
    ]
    click.echo(table(("Key id", "Algorithm", "State", "Signs from", "Accepted until"), rows))


@keys.command()
@_folder_option
@_algorithm_option
@click.option("--kid", help="The new key's ID.")
@click.option(
    "--announce",
    type=duration,
    help="How long to publish it before it signs: longer than verifiers cache the JWKS document. "
    "Default: 10m, or twice JWT_JWKS_MAX_AGE if longer.",
)
@click.option(
    "--retain",
    type=duration,
    help="How long to accept the previous key's tokens once this one signs. Default: the lifetime of the "
    "application's tokens, or 31d with --folder.",
)
@click.option(
    "--now", "at_once", is_flag=True, help="Sign with it at once, as after a key theft. Same as --announce 0."
)
def rotate(
    folder: Path | None,
    algorithm: str | None,
    kid: str | None,
    announce: float | None,
    retain: float | None,
    at_once: bool,
) -> None:
    """Add the next key, and print when tokens of the current one expire.

    Running processes load the new key within a minute. For a stolen key, run `rotate --now --retain 0`.
    This also withdraws announced keys: a thief who read one key in the folder read all of them.
    """
    if at_once and announce is not None:
        raise Failure("--now means --announce 0: pass only one of them")
    place = _Place(folder)
    ring = place.ring()
    active = ring.at(place.now)
    former = next((key for key in ring.keys if active.signs_with(key)), None)
    waiting = [key for key in ring.keys if key.can_sign and place.now < key.signs_from < key.accepted_until]
    if waiting and not at_once:
        then = when(waiting[0].signs_from, place.now)
        raise Failure(f"{waiting[0].kid} is already announced and signs from {then}")
    lead = 0.0 if at_once or former is None else place.announcement() if announce is None else announce
    start = place.now + lead
    last = former or max(ring.keys, key=lambda key: key.signs_from)
    key = Key.generate(algorithm or last.algorithm, kid or _new_kid(place.now), signs_from=start)
    if key.kid in {other.kid for other in ring.keys}:
        raise Failure(f"Key {key.kid} already exists")
    place.folder.put(key)
    say(f"{key.kid} signs with {key.algorithm} from {when(start, place.now)}")
    if former is not None and 0 < lead < _READ_EVERY:
        last_to_know = when(place.now + _READ_EVERY, place.now)
        say(f"Running processes read the folder once a minute: some switch as late as {last_to_know}")
    for withdrawn in waiting:
        place.end(withdrawn, place.now)
    if former is not None:
        place.end(former, place.retained_until(start, retain))


@keys.command()
@click.argument("kid")
@_folder_option
@click.option("--after", type=duration, default="0", help="How much longer to accept its tokens. Default: 0.")
def retire(kid: str, folder: Path | None, after: float) -> None:
    """Stop accepting a key's tokens, at once or after a while.

    The signing key cannot be retired: run `rotate` first, with --now if it was stolen. A retired key that
    was only announced never signs. Running processes follow within a minute.
    """
    place = _Place(folder)
    ring = place.ring()
    key = next((key for key in ring.keys if key.kid == kid), None)
    if key is None:
        raise Failure(f"Key {kid} not found: run `keys list` to see all keys")
    if ring.at(place.now).signs_with(key):
        raise Failure(f"{kid} is the signing key: replace it first, with `keys rotate --now`")
    is_withdrawn = place.now < key.signs_from < key.accepted_until
    place.end(key, place.now if is_withdrawn else place.now + after)
    signing = next((key for key in ring.keys if ring.at(place.now).signs_with(key)), None)
    if is_withdrawn and signing is not None and not math.isinf(signing.accepted_until):
        # It was to replace the signing key, which was due to expire for that.
        signing.accepted_until = math.inf
        place.folder.put(signing)
        say(f"{signing.kid} keeps signing and never expires")


@keys.command()
@_folder_option
def jwks(folder: Path | None) -> None:
    """Print the JWKS document (RFC 7517 §5) that others verify tokens with. It contains no secret."""
    ring, now = _ring_at(folder)
    show_json(ring.at(now).jwks())


def _new_kid(now: float) -> str:
    """Return a key ID that shows how old the key is."""
    return f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d}-{secrets.token_hex(3)}"


def _ring_of(found: list[Key]) -> KeyRing:
    """Return a key ring of a folder's keys."""
    if not found:
        raise Failure("The key folder is empty: create a key with `keys new`")
    signing = [key for key in found if key.can_sign]
    return KeyRing(signing, [key for key in found if not key.can_sign])


def _ring_at(folder: Path | None) -> tuple[KeyRing, float]:
    """Return the keys of a folder, or the application's from wherever they come, and the time."""
    if folder is not None:
        place = _Place(folder)
        return place.ring(), place.now
    bound = app_state()
    engine = bound.engine()
    if engine.settings.key_folder is not None:
        place = _Place(None)
        return place.ring(), place.now
    run(bound, engine.active_keys, asks_hooks=engine.ring.is_loaded)
    return engine.ring, engine.clock()


def _state(key: Key, active: ActiveKeys, now: float) -> str:
    if active.signs_with(key):
        return "signs"
    if key not in active.accepted:
        return "retired"
    return "announced" if key.signs_from > now else "accepted"


def _finite(moment: float) -> float | None:
    return None if math.isinf(moment) else moment
