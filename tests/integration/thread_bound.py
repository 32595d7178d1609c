"""Plain Flask applications whose database sessions belong to a thread, as Flask's own documentation has them.

`python -m tests.integration.thread_bound KIND SETTING MODE FOLDER REDIS_URL` serves 512 requests from 16
threads, in this process, in a forked one, or under gevent, and exits with 0 if every promise held.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__" and sys.argv[3] == "gevent":
    from gevent import monkey

    monkey.patch_all()

import flask
import peewee
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool

from async_jwt.adapters.flask_sync import JWTManager, current_user, jwt_required

SECRET = "a secret for tests, long enough for any hash that HMAC may use, which is 64 bytes"
THREADS, EACH = 16, 32
SETTINGS = ("memory", "redis", "timeout", "async hook", "all at once")


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    active: Mapped[bool] = mapped_column(default=True)


class Kind:
    """One way to keep a connection for each request."""

    def __init__(self, app: flask.Flask, file: Path) -> None:
        self.file = file

    def load(self, key: int) -> Any:
        raise NotImplementedError

    def rename(self, user: Any, name: str) -> None:
        raise NotImplementedError

    def open_connections(self) -> int:
        """How many are in use while no request is served."""
        raise NotImplementedError


class Scoped(Kind):
    """SQLAlchemy's `scoped_session`, from Flask's documentation."""

    def __init__(self, app: flask.Flask, file: Path) -> None:
        super().__init__(app, file)
        options = {"poolclass": QueuePool, "pool_size": 2 * THREADS, "connect_args": {"timeout": 60}}
        self.engine = create_engine(f"sqlite:///{file}", **options)
        event.listen(self.engine, "connect", lambda made, _: made.execute("PRAGMA synchronous=OFF"))
        self.db = scoped_session(sessionmaker(self.engine))
        app.teardown_appcontext(lambda _: self.db.remove())

    def load(self, key: int) -> Any:
        return self.db.get(User, key)

    def rename(self, user: Any, name: str) -> None:
        user.name = name
        self.db.commit()

    def open_connections(self) -> int:
        return self.engine.pool.checkedout()


class _Row:
    def __init__(self, row: tuple[int, str, int]) -> None:
        self.id, self.name, self.active = row


class OnG(Kind):
    """One sqlite3 connection for each request, on `g`, from Flask's tutorial."""

    def __init__(self, app: flask.Flask, file: Path) -> None:
        super().__init__(app, file)
        self._open = 0
        self._lock = threading.Lock()

        @app.teardown_appcontext
        def close(_: BaseException | None) -> None:
            db = flask.g.pop("db", None)
            if db is not None:
                db.close()
                self._count(-1)

    def _count(self, step: int) -> None:
        with self._lock:
            self._open += step

    def _db(self) -> sqlite3.Connection:
        if "db" not in flask.g:
            flask.g.db = sqlite3.connect(self.file, timeout=60)
            flask.g.db.execute("PRAGMA synchronous=OFF")
            self._count(1)
        return flask.g.db

    def load(self, key: int) -> Any:
        row = self._db().execute("SELECT id, name, active FROM users WHERE id = ?", (key,)).fetchone()
        return row and _Row(row)

    def rename(self, user: Any, name: str) -> None:
        with self._db() as db:
            db.execute("UPDATE users SET name = ? WHERE id = ?", (name, user.id))
        user.name = name

    def open_connections(self) -> int:
        return self._open


class Peewee(Kind):
    """Peewee, whose connection is one of the thread that opened it."""

    def __init__(self, app: flask.Flask, file: Path) -> None:
        super().__init__(app, file)
        self._opened: list[Any] = []
        kept = self._opened

        class Database(peewee.SqliteDatabase):
            def _connect(self) -> Any:
                made = super()._connect()
                kept.append(made)
                return made

            def _close(self, conn: Any) -> None:
                kept.remove(conn)
                super()._close(conn)

        self.db = Database(file, pragmas={"synchronous": 0}, timeout=60, autoconnect=False)

        class Person(peewee.Model):
            name = peewee.CharField()
            active = peewee.BooleanField()

            class Meta:
                database = self.db
                table_name = "users"

        self.model = Person
        app.before_request(lambda: self.db.connect() and None)
        app.teardown_request(lambda _: self.db.is_closed() or self.db.close())

    def load(self, key: int) -> Any:
        return self.model.get_or_none(self.model.id == key)

    def rename(self, user: Any, name: str) -> None:
        user.name = name
        user.save()

    def open_connections(self) -> int:
        return len(self._opened)


KINDS: dict[str, type[Kind]] = {"scoped_session": Scoped, "sqlite3 on g": OnG, "peewee": Peewee}


def make(kind: str, setting: str, folder: Path, redis_url: str) -> tuple[flask.Flask, Kind, JWTManager]:
    file = folder / "users.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, active INTEGER NOT NULL)")
        db.executemany("INSERT INTO users VALUES (?, 'nobody', 1)", [(key,) for key in range(THREADS)])
    db.close()
    app = flask.Flask("thread_bound")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_STORE_URI="memory://", PROPAGATE_EXCEPTIONS=True)
    if setting in ("redis", "all at once"):
        app.config["JWT_STORE_URI"] = f"{redis_url}?prefix={folder.name}:&deadline=20"
    if setting in ("timeout", "all at once"):
        app.config["JWT_HOOK_TIMEOUT"] = 60
    kept = KINDS[kind](app, file)
    jwt = JWTManager(app)
    if setting in ("async hook", "all at once"):

        @jwt.token_in_blocklist_loader
        async def blocked(_header: Any, _claims: Any) -> bool:
            return False

    @jwt.user_lookup_loader
    def load(_header: Any, claims: Any) -> Any:
        user = kept.load(int(claims["sub"]))
        return user if user is not None and user.active else None

    @app.get("/me")
    @jwt_required()
    def me() -> Any:
        return {"name": current_user.name}

    @app.post("/rename/<name>")
    @jwt_required()
    def rename(name: str) -> Any:
        kept.rename(current_user, name)
        return {"name": current_user.name}

    return app, kept, jwt


Client = Callable[[str, str, str], tuple[int, Any]]
"""Sends a request: method, path, token."""


def client_of(app: flask.Flask) -> Client:
    def send(method: str, path: str, token: str) -> tuple[int, Any]:
        answer = app.test_client().open(path, method=method, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json

    return send


def visit(key: int, token: str, send: Client, failures: list[Any]) -> None:
    """What one user does; each answer must show what was written before it."""
    try:
        for number in range(EACH // 2):
            name = f"user {key} {number}"
            for method, path in (("POST", f"/rename/{name}"), ("GET", "/me")):
                answer = send(method, path, token)
                if answer != (200, {"name": name}):
                    failures.append((path, answer))
    except Exception as problem:  # noqa: BLE001  # told by whoever reads the list
        failures.append(problem)


def exercise(made: tuple[flask.Flask, Kind, JWTManager], send: Client) -> None:
    """All of it. Raises AssertionError for a promise that was broken."""
    app, kept, jwt = made
    with app.app_context():
        tokens = [jwt.create_access_token(str(key)) for key in range(THREADS)]
    failures: list[Any] = []
    threads = [
        threading.Thread(target=visit, args=(key, tokens[key], send, failures)) for key in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    look_after(kept, tokens[0], send)
    jwt.close()


def look_after(kept: Kind, token: str, send: Client) -> None:
    """Writes are kept, a user who was disabled is out at once, and no connection is left."""
    with sqlite3.connect(kept.file) as db:
        names = [name for (name,) in db.execute("SELECT name FROM users ORDER BY id")]
        db.execute("UPDATE users SET active = 0 WHERE id = 0")
    db.close()
    assert names == [f"user {key} {EACH // 2 - 1}" for key in range(THREADS)]
    status, body = send("GET", "/me", token)
    assert (status, body["code"]) == (401, "user_not_found")
    assert kept.open_connections() == 0


def main(kind: str, setting: str, mode: str, folder: str, redis_url: str) -> int:
    made = make(kind, setting, Path(folder), redis_url)
    send = client_of(made[0])
    if mode != "fork":
        exercise(made, send)
        return 0
    assert send("GET", "/me", made[2].create_access_token("1"))[0] == 200  # connections and loop are there
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    exercise(made, send)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
