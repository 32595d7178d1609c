"""Plain Flask views on a Redis store."""

from __future__ import annotations

import threading

from flask import Flask

from async_jwt.adapters import flask_sync
from tests.harness import SECRET


def test_plain_flask_views_share_commands(redis_server):
    """Their threads meet on the home loop."""
    app = Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_STORE_URI=f"{redis_server.url}?deadline=5&poll=3600")
    manager = flask_sync.JWTManager(app)
    app.add_url_rule("/me", "me", flask_sync.jwt_required()(lambda: "ok"))
    with app.app_context():
        tokens = [flask_sync.create_access_token(f"user {number}") for number in range(16)]
    start = threading.Barrier(16)
    statuses = []

    def client(token):
        start.wait()
        for _ in range(20):
            answer = app.test_client().get("/me", headers={"Authorization": f"Bearer {token}"})
            statuses.append(answer.status_code)

    redis_server.does("CONFIG", "RESETSTAT")
    threads = [threading.Thread(target=client, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 320
    assert redis_server.does("INFO", "commandstats")["cmdstat_mget"]["calls"] < 320 / 2
    manager.close()
