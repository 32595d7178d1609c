"""A folder of keys, one JSON Web Key in each file: what a `KeyRing` loads, and the command line changes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from async_jwt.errors import ConfigurationError
from async_jwt.keys import Key

__all__ = ["KeyFolder"]

_SUFFIX = ".jwk"
_TIMES = ("signs_from", "accepted_until")


class KeyFolder:
    """The keys of a folder, as a loader: `KeyRing(load=KeyFolder("/etc/app/keys"))`.

    Each file `*.jwk` is one JSON Web Key (RFC 7517 §4) with `alg` and `kid`. Two members of ours,
    `signs_from` and `accepted_until`, say when it signs and until when its tokens are accepted, in
    seconds since the epoch. `JWT_KEY_FOLDER` names the folder of an application.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)

    def __call__(self) -> list[Key]:
        """Read all keys. Blocks, so a ring asks it in a thread.

        Raises:
            ConfigurationError: the folder or a file cannot be read, or a file holds no key. One of
                them is enough: a ring then goes on with the keys that it has.
        """
        return [self._read(file) for file in self.files()]

    def files(self) -> list[Path]:
        """The files that hold keys.

        Raises:
            ConfigurationError: the folder cannot be read.
        """
        try:
            return sorted(file for file in self.path.iterdir() if file.suffix == _SUFFIX)
        except OSError as problem:
            fix = ": its first key is made by `keys new`" if isinstance(problem, FileNotFoundError) else ""
            raise ConfigurationError(
                f"The key folder {self.path} cannot be read: {_why(problem)}{fix}"
            ) from None

    def put(self, key: Key) -> Path:
        """Write a key, in the place of what has its id: whole or not at all, for its owner's eyes only.

        Raises:
            ConfigurationError: the folder cannot be written to, or the key has no id or cannot sign.
        """
        if key.kid is None or not key.can_sign:
            raise ConfigurationError(
                f"{key!r} cannot be put into a key folder: it needs an id and a private half"
            )
        jwk = {**key.private_jwk(), **dict(_times_of(key))}
        file = self._file_of(key.kid)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made with 0600. In the same folder, so that it can be renamed in one step.
            descriptor, name = tempfile.mkstemp(prefix=".", dir=self.path)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    json.dump(jwk, stream, indent=2, sort_keys=True)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(name).replace(file)
            except BaseException:
                Path(name).unlink()
                raise
        except OSError as problem:
            raise ConfigurationError(
                f"The key folder {self.path} cannot be written to: {_why(problem)}"
            ) from None
        return file

    def _file_of(self, kid: str) -> Path:
        """Where the key of an id stands, or a new file for it, which is named after it where that can be."""
        for file in self.files() if self.path.is_dir() else ():
            if self._read(file).kid == kid:
                return file
        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in kid)[:100]
        return self.path / f"{name}{_SUFFIX}"

    def _read(self, file: Path) -> Key:
        try:
            jwk: Any = json.loads(file.read_bytes())
            if not isinstance(jwk, dict):
                raise ConfigurationError("it holds no JSON Web Key")  # noqa: TRY301  # as of a wrong key
            return Key.from_jwk(jwk, **{name: jwk[name] for name in _TIMES if name in jwk})
        except ConfigurationError as problem:
            reason = str(problem)
        except OSError as problem:
            reason = _why(problem)
        except (ValueError, RecursionError):
            reason = "it is no JSON"
        raise ConfigurationError(f"The key file {file}: {reason}")

    def __repr__(self) -> str:
        return f"<KeyFolder {str(self.path)!r}>"


def _times_of(key: Key) -> Iterator[tuple[str, float]]:
    for name in _TIMES:
        moment: float = getattr(key, name)
        if abs(moment) != float("inf"):
            yield name, moment


def _why(problem: OSError) -> str:
    return problem.strerror or type(problem).__name__
