"""A shop with two kinds of users: customers, whose app sends bearer tokens, and staff, who work in pages.

Each kind is a realm of its own: other keys, other lifetimes, other cookies, other users with the same names.

hypercorn "examples.staff.app:create_app()"
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from quart import Blueprint, Quart, redirect, render_template_string, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_access_token,
    create_token_pair,
    current_user,
    get_jwt_identity,
    jwt_required,
    protect,
    public,
    revoke_user,
    rotate_refresh_token,
    safe_next,
    set_access_cookies,
    set_token_cookies,
    sign_out,
)

CUSTOMERS = {"ada": "analytical", "grace": "compiler"}
STAFF = {"ada": ("engine", ["clerk"]), "mary": ("notes", ["clerk", "manager"])}

STAFF_REALM = {
    "JWT_TOKEN_LOCATION": ["cookies"],
    "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=5),
    "JWT_REFRESH_TOKEN_EXPIRES": timedelta(hours=8),
    "JWT_SESSION_COOKIE": True,
    "JWT_CSRF_CHECK_FORM": True,
    "JWT_LOGIN_VIEW": "/staff/login",
}

LOGIN = """<!doctype html><title>Staff</title><form method="post">
  <input name="name"><input name="password" type="password"><button>Sign in</button></form>"""

DESK = """<!doctype html><title>Desk</title><p id="who">{{ user.name }}: {{ user.roles | join(", ") }}</p>
<form method="post" action="/staff/refunds/7">
  <input type="hidden" name="csrf_token" value="{{ jwt_csrf_token() }}"><button>Refund order 7</button></form>
<form method="post" action="/staff/logout"><button>Sign out</button></form>"""

staff = protect(Blueprint("staff", __name__, url_prefix="/staff"), realm="staff", roles="clerk")


@staff.get("/")
@jwt_required(refresh_cookie=True)  # of the blueprint's realm
async def desk() -> Any:
    return await render_template_string(DESK, user=current_user)


@staff.post("/refunds/<int:order>")
@jwt_required(fresh=True)  # within two minutes after the password
async def refund(order: int) -> Any:
    return {"refunded": order, "by": get_jwt_identity()}


@staff.post("/customers/<name>/sign-out")
@jwt_required(roles="manager")
async def sign_customer_out(name: str) -> Any:
    await revoke_user(name, realm="")  # the customer of that name, and nobody of the staff
    return {"signed_out": name}


@staff.route("/login", methods=["GET", "POST"])
@public
async def login() -> Any:
    if request.method == "GET":
        return LOGIN
    sent = await request.form
    password, roles = STAFF.get(sent["name"], ("", []))
    if not password or sent["password"] != password:
        return LOGIN, 401
    response = redirect(safe_next(default="/staff/"))
    fresh = timedelta(minutes=2)
    pair = await create_token_pair(sent["name"], realm="staff", fresh=fresh, roles=roles)
    set_token_cookies(response, pair)  # the token says whose cookies these are
    return response


@staff.post("/confirm")
async def confirm() -> Any:
    """The password again, before something that cannot be taken back."""
    sent, name = await request.form, get_jwt_identity()
    password, roles = STAFF[name]
    if sent["password"] != password:
        return {"msg": "Wrong password"}, 403
    response = redirect("/staff/")
    set_access_cookies(response, await create_access_token(name, fresh=timedelta(minutes=2), roles=roles))
    return response


@staff.post("/logout")
@public
async def logout() -> Any:
    response = redirect("/staff/login")
    await sign_out(response, realm="staff")
    return response


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    # For more than a demonstration, secrets that outlive the process: app.config.from_prefixed_env().
    app.config.update(
        JWT_SECRET_KEY=secrets.token_hex(64),
        JWT_DEFAULT_DENY=True,
        JWT_REALMS={"staff": {"JWT_SECRET_KEY": secrets.token_hex(64), **STAFF_REALM}},
    )
    app.config.update(config)
    jwt = JWTManager(app)
    jwt_of_staff = jwt.realm("staff")

    @jwt_of_staff.user_lookup_loader
    async def employee(_header: dict[str, Any], claims: dict[str, Any]) -> Any:
        name = claims["sub"]
        return {"name": name, "roles": STAFF[name][1]} if name in STAFF else None

    @jwt_of_staff.additional_claims_loader
    async def roles_of_now(name: str) -> dict[str, Any]:
        return {"roles": STAFF[name][1]}  # asked at each refresh: what was taken away is gone

    @app.post("/login")
    @public
    async def customer_login() -> Any:
        sent = await request.get_json()
        if CUSTOMERS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        pair = await create_token_pair(sent["name"])
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.post("/refresh")
    @jwt_required(refresh=True)
    async def refresh() -> Any:
        pair = await rotate_refresh_token()
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.get("/orders")
    async def orders() -> Any:
        return {"orders_of": get_jwt_identity()}

    app.register_blueprint(staff)
    return app
