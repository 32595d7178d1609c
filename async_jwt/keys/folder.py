"""A folder of keys, one JSON Web Key per file: a `KeyRing` loads it, the command line changes it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from async_jwt.errors import ConfigurationError
from async_jwt.keys.key import Key

__all__ = ["KeyFolder"]

_SUFFIX = ".jwk"
_TIMES = ("signs_from", "accepted_until")


class KeyFolder:
    """A loader that reads the keys of a folder: `KeyRing(load=KeyFolder("/etc/app/keys"), loaded_sign=True)`.

    Each file `*.jwk` is one JSON Web Key (RFC 7517 §4) with `alg` and `kid`. Two members of our own,
    `signs_from` and `accepted_until`, say when it begins to sign and until when its tokens are accepted,
    in seconds since the epoch. `JWT_KEY_FOLDER` names the folder of an application.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)

    def __call__(self) -> list[Key]:
        """Read all keys. Blocks, so a ring calls it in a thread.

        Raises:
            ConfigurationError: the folder or a file cannot be read, or a file holds no key. One bad
                file is enough: a ring then keeps the keys that it has.
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
            fix = ": create its first key with `keys new`" if isinstance(problem, FileNotFoundError) else ""
            raise ConfigurationError(
                f"The key folder {self.path} cannot be read: {_why(problem)}{fix}"
            ) from None

    @property
    def is_empty(self) -> bool:
        """True if it holds no key yet, or does not exist.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            self.path.stat()
        except FileNotFoundError:
            return True
        except OSError as problem:  # which `Path.exists` hides from Python 3.14 on
            raise ConfigurationError(f"The key folder {self.path} cannot be read: {_why(problem)}") from None
        return not self.files()

    def put(self, key: Key) -> Path:
        """Write a key atomically; it replaces the file with the same id.

        Only its owner, the folder's owner, can read a new file. An existing file keeps its owner, its mode,
        and its foreign members.

        Raises:
            ConfigurationError: the folder cannot be written to, or the key has no id.
        """
        if key.kid is None:
            raise ConfigurationError(f"{key!r} cannot be put into a key folder: it needs an id")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._file_of(key.kid)
            before = json.loads(file.read_bytes()) if file.exists() else {}
            kept = {name: value for name, value in before.items() if name not in _TIMES}
            own = key.private_jwk() if key.can_sign else key.public_jwk()
            self._replace(file, {**kept, **own, **dict(_times_of(key))})
        except OSError as problem:
            raise ConfigurationError(
                f"The key folder {self.path} cannot be written to: {_why(problem)}"
            ) from None
        return file

    def _replace(self, file: Path, jwk: dict[str, Any]) -> None:
        # Created with mode 0600, and in the same folder, so that the rename is atomic.
        descriptor, name = tempfile.mkstemp(prefix=".", dir=self.path)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(jwk, stream, indent=2, sort_keys=True)
                stream.flush()
                os.fsync(stream.fileno())
            like = (file if file.exists() else self.path).stat()
            if file.exists():
                Path(name).chmod(stat.S_IMODE(like.st_mode))
            # Only root can change the owner; Windows cannot at all.
            with suppress(PermissionError, AttributeError):
                shutil.chown(name, like.st_uid, like.st_gid)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink()
            raise

    def _file_of(self, kid: str) -> Path:
        """The file of the key with this id, or a new file for it, named after the id where possible."""
        for file in self.files():
            if self._read(file).kid == kid:
                return file
        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in kid)[:100]
        file = self.path / f"{name}{_SUFFIX}"
        if not file.exists():
            return file
        return self.path / f"{name}-{hashlib.sha256(kid.encode()).hexdigest()[:12]}{_SUFFIX}"

    def _read(self, file: Path) -> Key:
        try:
            jwk: Any = json.loads(file.read_bytes())
            if not isinstance(jwk, dict):
                raise ConfigurationError("not a JSON Web Key")  # noqa: TRY301  # reported like a wrong key
            key = Key.from_jwk(jwk, **{name: jwk[name] for name in _TIMES if name in jwk})
            if key.kid is None:
                raise ConfigurationError("a secret needs a kid")  # noqa: TRY301
        except ConfigurationError as problem:
            reason = str(problem)
        except OSError as problem:
            reason = _why(problem)
        except (ValueError, RecursionError):
            reason = "not JSON"
        else:
            return key
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
