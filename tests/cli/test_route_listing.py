"""`jwt routes`: what each route demands, for people, programs and CI."""

from __future__ import annotations

import pytest


@pytest.fixture
def app(every_line):
    app, api = every_line.make(), every_line.api

    def add(rule, name, guard=lambda view: view, **options):
        own = new_view(is_plain=api.__name__.endswith("flask_sync"))
        app.add_url_rule(rule, name, guard(own), **options)

    add("/", "index", api.public)
    add(
        "/account",
        "account",
        api.jwt_required(fresh=True, locations=["headers", "cookies"]),
        methods=["DELETE"],
    )
    add("/feed", "feed", api.jwt_required(optional=True))
    add(
        "/logout", "logout", api.jwt_required(verify_type=False, skip_revocation_check=True), methods=["POST"]
    )
    add("/me", "me", api.jwt_required())
    add("/refresh", "refresh", api.jwt_required(refresh=True), methods=["POST"])
    add("/link", "link", api.jwt_required(type="link", once="get"))
    add("/reset", "reset", api.jwt_required(type={"reset", "invite"}, once=True), methods=["PUT", "PATCH"])
    demands = {"scopes": ["read", api.any_of("a", "b")], "roles": "admin", "claims": {"verified": True}}
    add("/staff", "staff", api.jwt_required(**demands, allow=is_staff))
    return app


def is_staff(found):
    return True


def new_view(*, is_plain):
    async def view_async():
        return ""

    def view():
        return ""

    return view if is_plain else view_async


TABLE = """\
Rule      Methods    Requires                                     Set by  Endpoint
/         GET        public                                               index
/account  DELETE     fresh access token in headers or cookies     view    account
/feed     GET        access token (optional)                      view    feed
/link     GET        link token once, at GET too                  view    link
/logout   POST       access or refresh token (even revoked)       view    logout
/me       GET        access token                                 view    me
/refresh  POST       refresh token                                view    refresh
/reset    PATCH PUT  invite or reset token once                   view    reset
/staff    GET        access token with scope read and (a or b) with role admin with verified = true if is_staff view    staff
"""


def test_a_table(every_line, app):
    result = every_line("routes", "--check")
    lines = [" ".join(text.split()) for text in result.output.splitlines()]
    assert lines == [" ".join(text.split()) for text in TABLE.splitlines()]
    assert result.exit_code == 0


def test_json(every_line, app):
    found = {route["endpoint"]: route for route in every_line.json("routes")}
    assert found["account"] == {
        "rule": "/account",
        "methods": ["DELETE"],
        "websocket": False,
        "endpoint": "account",
        "state": "protected",
        "said_by": "view",
        "demands": [
            {
                "types": ["access"],
                "optional": False,
                "fresh": True,
                "locations": ["headers", "cookies"],
                "realm": None,
                "scopes": [],
                "roles": [],
                "claims": {},
                "allow": [],
                "once": False,
                "skips_revocation_check": False,
            }
        ],
    }
    assert found["logout"]["demands"][0]["types"] is None
    staff = found["staff"]["demands"][0]
    assert (staff["scopes"], staff["roles"]) == ([["read"], ["a", "b"]], [["admin"]])
    assert (staff["claims"], staff["allow"]) == ({"verified": True}, ["is_staff"])
    assert [found[name]["demands"][0]["once"] for name in ("link", "reset")] == ["get", True]
    assert (found["index"]["state"], found["index"]["said_by"], found["index"]["demands"]) == (
        "public",
        None,
        [],
    )


def test_check_fails_on_one_forgotten_view(every_line, app):
    app.add_url_rule("/forgotten", "forgotten", lambda: "")
    assert every_line("routes").exit_code == 0
    result = every_line("routes", "--check")
    assert result.exit_code == 1
    assert "/forgotten  GET" in result.output
    assert result.output.splitlines()[-1] == (
        "Error: Unprotected and not marked @public: forgotten. Add @jwt_required() or @public"
    )
    app.config["JWT_DEFAULT_DENY"] = True
    assert every_line("routes", "--check").exit_code == 0


def test_websockets_and_files(quart_line, tmp_path):
    app = quart_line.make()
    app.static_folder = str(tmp_path)
    app.add_url_rule("/static/<path:filename>", "static", app.send_static_file)

    @app.websocket("/ws")
    @quart_line.api.jwt_required(optional=True)
    async def ws():
        pass

    assert quart_line("routes").output.splitlines()[1:] == [
        "/static/<path:filename>  GET        static files                     static",
        "/ws                      WebSocket  access token (optional)  view    ws",
    ]
