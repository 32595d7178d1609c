"""A Quart application with a JSON API for bearer tokens, pages for cookies, and a WebSocket for both.

`create_app` makes it. Start it with a server of your choice; `python -m examples.demo` takes
Hypercorn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from quart import (
    Blueprint,
    Quart,
    abort,
    current_app,
    make_response,
    redirect,
    render_template_string,
    request,
)
from quart.typing import ResponseReturnValue

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    current_user,
    get_jwt_request_location,
    jwt_required,
    public,
    refresh_expiring_cookies,
    revoke_session,
    revoke_user,
    rotate_refresh_token,
    set_token_cookies,
    sign_out,
)
from async_jwt.errors import (
    JWTDecodeError,
    JWTExtendedException,
    NoAuthorizationError,
    RevokedTokenError,
    UserLookupError,
)
from examples.demo.devices import Incidents, device_name, devices
from examples.demo.live import MAX_NOTICE_LENGTH, Board, live
from examples.demo.models import User, Users
from examples.demo.pages import ACCOUNT_PAGE, LIVE_PAGE, LOGIN_PAGE

CHALLENGE = {"WWW-Authenticate": "Bearer"}
NO_STORE = {"Cache-Control": "no-store"}
MIN_PASSWORD_LENGTH = 10

jwt = JWTManager()
api = Blueprint("api", __name__, url_prefix="/api")
pages = Blueprint("pages", __name__)


def create_app(config: Mapping[str, Any]) -> Quart:
    """Make the application.

    Args:
        config: `JWT_SECRET_KEY` and `DATABASE_URL`, and whatever else shall differ. `USERS`
            maps the names of users to create to their passwords.
    """
    app = Quart(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=1024 * 1024,
        JWT_TOKEN_LOCATION=["headers", "cookies", "websocket_protocol"],
        JWT_COOKIE_PREFIX="__Host-",
        # A view that somebody forgets to protect is protected all the same.
        JWT_DEFAULT_DENY=True,
        # A browser may never see the answer that held its new token: the old one leads to it till then.
        JWT_REFRESH_GRACE="until_used",
        JWT_MAX_SESSIONS=50,
        # memory:// is for one process; several share their revocations in redis://...
        JWT_STORE_URI=os.environ.get("JWT_STORE_URI", "memory://"),
    )
    app.config.update(config)
    app.extensions["users"] = users = Users(app.config["DATABASE_URL"])
    app.extensions["board"] = Board()
    app.extensions["incidents"] = Incidents(app)
    jwt.init_app(app, add_context_processor=True)
    app.register_blueprint(api)
    app.register_blueprint(pages)
    app.register_blueprint(live)

    @app.before_serving
    async def prepare() -> None:
        await users.create_tables()
        for name, password in app.config.get("USERS", {}).items():
            await users.add(name, password)

    @app.after_serving
    async def close() -> None:
        await users.close()

    return app


def all_users() -> Users:
    return cast("Users", current_app.extensions["users"])


# -- what async_jwt needs to know of users ------------------------------------------------


@jwt.user_identity_loader(inline=True)
def identity_of(user: User) -> str:
    return user.id


@jwt.user_lookup_loader
async def user_of(_header: dict[str, Any], claims: dict[str, Any]) -> User | None:
    return await all_users().get(claims["sub"])


# -- the API: tokens in JSON and in the Authorization header ------------------------------


async def json_texts(*keys: str) -> list[str]:
    """These texts of a JSON object in the request's body, or 400."""
    body = await request.get_json()
    values = body if isinstance(body, dict) else {}
    texts = [values[key] for key in keys if isinstance(values.get(key), str)]
    if len(texts) != len(keys):
        abort(400, f"Expected a JSON object with the texts {', '.join(keys)}")
    return texts


@api.post("/login")
@public
async def login() -> ResponseReturnValue:
    user = await all_users().with_password(*await json_texts("name", "password"))
    if user is None:
        return {"msg": "Wrong name or password", "code": "login_failed"}, 401, CHALLENGE
    pair = await create_token_pair(user, fresh=True, device=device_name())
    return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}, 200, NO_STORE


@api.post("/refresh")
@jwt_required(refresh=True, locations="headers")
async def refresh() -> ResponseReturnValue:
    # The new access token is not fresh: nobody typed a password just now.
    pair = await rotate_refresh_token()
    return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}, 200, NO_STORE


@api.post("/logout")
@jwt_required(locations="headers")
async def logout() -> ResponseReturnValue:
    await revoke_session()
    return {"msg": "Logged out"}


@api.post("/logout-everywhere")
@jwt_required
async def logout_everywhere() -> ResponseReturnValue:
    await revoke_user()
    return {"msg": "Logged out on all devices"}


@api.get("/me")
@jwt_required
async def me() -> ResponseReturnValue:
    return {"id": current_user.id, "name": current_user.name}


@api.delete("/me")
@jwt_required(fresh=True)
async def delete_me() -> ResponseReturnValue:
    # The tokens left need no revoking: their user is not found any more.
    await all_users().delete(current_user.id)
    return {"msg": "Your account is gone"}


@api.post("/password")
@jwt_required(fresh=True)
async def change_password() -> ResponseReturnValue:
    (password,) = await json_texts("password")
    if len(password) < MIN_PASSWORD_LENGTH:
        abort(400, f"A password has at least {MIN_PASSWORD_LENGTH} characters")
    await all_users().set_password(current_user.id, password)
    # Whoever knew the old password is out; this session goes on.
    await revoke_user(keep_current=True)
    return {"msg": "Password changed"}


@api.post("/greeting")
@jwt_required
async def greeting() -> ResponseReturnValue:
    return {"greeting": f"Good to see you, {current_user.name}"}


@api.get("/download")
@jwt_required(locations=["headers", "query_string"])
async def download() -> ResponseReturnValue:
    # For links that cannot send headers. Addresses end up in logs: keep such tokens short-lived.
    return {"name": current_user.name, "location": get_jwt_request_location()}


@api.post("/beacon")
@jwt_required(locations="json")
async def beacon() -> ResponseReturnValue:
    return {"name": current_user.name, "location": get_jwt_request_location()}


# -- the pages: tokens in cookies ---------------------------------------------------------


@pages.get("/")
@public
async def index() -> ResponseReturnValue:
    return redirect("/account")


@pages.get("/login")
@public
async def login_form() -> ResponseReturnValue:
    return await render_template_string(LOGIN_PAGE)


@pages.post("/login")
@public
async def login_with_form() -> ResponseReturnValue:
    form = await request.form
    user = await all_users().with_password(form["name"], form["password"])
    if user is None:
        problem = "This name and password do not go together."
        return await render_template_string(LOGIN_PAGE, problem=problem), 401, CHALLENGE
    response = redirect("/account", 303)
    keeps = form.get("remember") == "on"
    pair = await create_token_pair(user, fresh=True, device=device_name(), persistent=keeps)
    set_token_cookies(response, pair)
    return response


@pages.get("/account")
@jwt_required(locations="cookies", refresh_cookie=True)
async def account() -> ResponseReturnValue:
    return await render_template_string(ACCOUNT_PAGE), 200, NO_STORE


@pages.get("/live")
@jwt_required(locations="cookies", refresh_cookie=True)
async def live_page() -> ResponseReturnValue:
    return await render_template_string(LIVE_PAGE, max_length=MAX_NOTICE_LENGTH), 200, NO_STORE


@pages.post("/refresh")
@jwt_required(refresh=True, locations="cookies")
async def refresh_cookies() -> ResponseReturnValue:
    response = await make_response({"msg": "Refreshed"})
    set_token_cookies(response, await rotate_refresh_token())
    return response


@pages.post("/logout")
@public
async def logout_with_cookies() -> ResponseReturnValue:
    response = await make_response({"msg": "Logged out"})
    await sign_out(response)
    return response


# Whoever uses the pages is not asked to refresh: their cookies are replaced in time.
pages.after_request(refresh_expiring_cookies)
pages.register_blueprint(devices)


@pages.errorhandler(NoAuthorizationError)
@pages.errorhandler(JWTDecodeError)
@pages.errorhandler(RevokedTokenError)
@pages.errorhandler(UserLookupError)
async def ask_to_log_in(_: JWTExtendedException) -> ResponseReturnValue:
    """People get the form where programs get JSON."""
    return await render_template_string(LOGIN_PAGE), 401, CHALLENGE
