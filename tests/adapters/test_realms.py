"""Several kinds of users in one application: each with keys, cookies, loaders and sessions of its own."""

from __future__ import annotations

import itertools

import jwt as pyjwt
import pytest

from async_jwt import Key, KeyRing
from async_jwt.adapters._route_audit import routes_of
from async_jwt.core.policy import Policy
from async_jwt.errors import ConfigurationError, RealmError
from async_jwt.issuers import Issuer, IssuerIdentity
from async_jwt.issuers.identity import realm_name
from async_jwt.signals import token_issued, token_refused, token_revoked, user_loaded
from async_jwt.stores import MemoryStore
from async_jwt.testing import frozen_clock, jwt_client, outage
from tests.adapters.test_default_deny import new
from tests.harness import SECRET
from tests.harness.applications import NEEDS_QUART, however_it_runs, on_a_servers_loop, on_both_kinds
from tests.harness.keys import PRIVATE
from tests.harness.providers import Provider

pytestmark = pytest.mark.asyncio

ADMIN, PARTNER = "a" * 40, "p" * 40
URL = "https://a.example"
REVOKED = ("token", "session", "user", "everything")
NAMES = ("", "admin", "partner")


def realms(**more):
    return {
        "admin": {"JWT_SECRET_KEY": ADMIN, "JWT_ACCESS_TOKEN_EXPIRES": 300, **more},
        "partner": {"JWT_SECRET_KEY": PARTNER},
    }


def named(realm):
    return {"realm": realm} if realm else {}


def make(harness, config=None, given=None, **manager):
    """An application with a view for each of three realms."""
    h = harness({"JWT_REALMS": realms() if given is None else given, **(config or {})}, **manager)

    async def whose():
        found = h.api.current_auth()
        return {"who": h.api.get_jwt_identity(), "user": found.user, "claims": h.api.get_jwt()}

    for name in NAMES:
        h.view(f"/of-{name}", h.api.jwt_required(**named(name))(whose), methods=["GET", "POST"])
    return h


async def outcome(h, token, path, **options):
    answer = await h.call(path, token=token, **options)
    return answer.status if answer.status == 200 else answer.code


async def tokens(h, identity="7", **options):
    return {name: await h.jwt.create_access_token(identity, realm=name, **options) for name in NAMES}


# -- a token belongs to one realm ----------------------------------------------------------


@however_it_runs
@pytest.mark.parametrize("secrets", ["own", "equal"])
async def test_a_token_counts_in_its_own_realm_alone(make_app, secrets):
    given = realms() if secrets == "own" else {name: {"JWT_SECRET_KEY": SECRET} for name in NAMES[1:]}
    h = make(make_app, given=given)
    for _ in range(2):  # new, and remembered
        for (mine, token), view in itertools.product((await tokens(h)).items(), NAMES):
            answer = await h.call(f"/of-{view}", token=token)
            assert (mine, view, answer.status) == (mine, view, 200 if mine == view else 401)
            if mine != view:
                assert answer.code == ("token_invalid" if secrets == "own" else "realm_wrong")
                realm = f' realm="{view}",' if view else ""
                assert answer.headers["WWW-Authenticate"].startswith(f"Bearer{realm} error=")


@however_it_runs
async def test_each_type_of_token_is_of_one_realm(make_app):
    h = make(make_app, given={name: {"JWT_SECRET_KEY": SECRET} for name in NAMES[1:]})

    @h.api.jwt_required(refresh=True, realm="admin")
    async def refresh():
        pair = await h.api.rotate_refresh_token()
        return {"tokens": [pair.access_token, pair.refresh_token]}

    h.view("/refresh-admin", refresh)
    h.view("/reset-admin", h.api.jwt_required(type="reset", realm="admin")(new(h)))
    made = {}
    async with h.context():
        for name in NAMES:
            made[name] = await h.jwt.create_token_pair("7", realm=name)
            reset = await h.jwt.create_token("7", type="reset", realm=name)
            assert await outcome(h, reset, "/reset-admin") == (200 if name == "admin" else "realm_wrong")
    for name, pair in made.items():
        answer = await h.call("/refresh-admin", token=pair.refresh_token)
        assert answer.status == (200 if name == "admin" else 401)
        if name == "admin":
            assert [await outcome(h, answer.json["tokens"][0], f"/of-{view}") for view in NAMES] == [
                "realm_wrong",
                200,
                "realm_wrong",
            ]


@however_it_runs
async def test_the_claim_is_ours_alone(make_app):
    h = make(make_app, given={"admin": {"JWT_SECRET_KEY": SECRET}, "partner": {"JWT_SECRET_KEY": PARTNER}})
    admin = h.jwt.realm("admin")
    for each in (h.jwt, admin):
        each.additional_claims_loader(lambda identity: {"async_jwt_realm": "partner"})
    for name in NAMES[:2]:
        claims = {"async_jwt_realm": "admin" if name == "" else ""}
        token = await h.jwt.create_access_token("7", realm=name, additional_claims=claims)
        assert await outcome(h, token, f"/of-{name}") == 200
    bare = pyjwt.decode(token, options={"verify_signature": False})
    assert bare.pop("async_jwt_realm") == "admin"
    assert await outcome(h, pyjwt.encode(bare, SECRET), "/of-admin") == "realm_wrong"
    for odd in (None, 7, ["admin"], {"admin": 1}, True, "Admin", "admin "):
        forged = pyjwt.encode({**bare, "async_jwt_realm": odd}, SECRET)
        assert [await outcome(h, forged, f"/of-{name}") for name in NAMES[:2]] == ["realm_wrong"] * 2


@on_both_kinds
async def test_an_application_without_realms_refuses_their_tokens(harness):
    h = make(harness, given={name: {"JWT_SECRET_KEY": SECRET} for name in NAMES[1:]})
    other = harness()
    for name, token in (await tokens(h)).items():
        assert await outcome(other, token, "/me") == (200 if name == "" else "realm_wrong")
        async with other.context():
            if name:
                with pytest.raises(RealmError):
                    await other.jwt.decode_token(token)


# -- what each has of its own --------------------------------------------------------------


@however_it_runs
async def test_settings_loaders_and_lifetimes(make_app):
    h = make(make_app, {"JWT_ENCODE_ISSUER": "shop"})
    admin, partner = h.jwt.realm("admin"), h.jwt.realm("partner")
    assert h.jwt.realm("admin") is admin

    @h.jwt.user_lookup_loader
    async def customer(header, claims):
        return f"customer {claims['sub']}"

    @admin.user_lookup_loader
    async def clerk(header, claims):
        return f"admin {claims['sub']}"

    @admin.token_verification_loader
    def trusted(header, claims):
        return claims["sub"] != "mallory"

    @admin.unauthorized_loader
    def login(message):
        return {"msg": "of the admins"}, 401

    made = await tokens(h)
    for name, user in zip(NAMES, ["customer 7", "admin 7", None], strict=True):
        found = (await h.call(f"/of-{name}", token=made[name])).json
        assert (found["who"], found["user"], found["claims"]["iss"]) == ("7", user, "shop")
        life = found["claims"]["exp"] - found["claims"]["iat"]
        assert life == (300 if name == "admin" else 900)
    assert (await h.call("/of-admin", token=await admin.create_access_token("mallory"))).status == 400
    assert (await h.call("/of-partner", token=await partner.create_access_token("mallory"))).status == 200
    assert (await h.call("/of-admin")).json == {"msg": "of the admins"}
    assert (await h.call("/of-partner")).code == "authorization_required"


@however_it_runs
async def test_keys_given_in_code(make_app):
    app = make_app({"JWT_REALMS": {"partner": {"JWT_SECRET_KEY": PARTNER}}})
    ring = KeyRing(Key.generate("ES256", kid="admins"))
    admin = app.jwt.realm("admin", keys=ring)
    app.view("/of-admin", app.api.jwt_required(realm="admin")(new(app)))
    app.view("/keys-of-admin", app.api.jwks_view, defaults={"realm": "admin"})
    token = await admin.create_access_token("7")
    assert pyjwt.get_unverified_header(token)["kid"] == "admins"
    assert await outcome(app, token, "/of-admin") == 200
    assert admin.keys is ring
    keys = (await app.call("/keys-of-admin")).json["keys"]
    assert [key["kid"] for key in keys] == ["admins"]


@on_both_kinds
async def test_issuers_are_of_one_realm(harness):
    provider = Provider()
    try:
        issuers = {provider.url: {"audience": "staff"}}
        h = make(harness, given=realms(JWT_ISSUERS=issuers))
        staff, customer = provider.token(aud="staff"), provider.token(aud="shop")
        assert await outcome(h, staff, "/of-admin") == 200
        assert await outcome(h, staff, "/of-") == "token_invalid"
        assert await outcome(h, customer, "/of-admin") == "audience_invalid"
        async with h.context():
            whose = IssuerIdentity("u-1", issuer=provider.url)
            await h.jwt.revoke_user(whose)
            assert await outcome(h, provider.token(aud="staff"), "/of-admin") == 200
            await h.jwt.realm("admin").revoke_user(whose)
        assert await outcome(h, staff, "/of-admin") == "token_revoked"
        own = await h.jwt.create_access_token("7", realm="admin")
        assert await outcome(h, own, "/of-admin") == 200
        ring = Issuer(provider.url, audience={"staff", "shop"})
        with pytest.raises(ConfigurationError, match="for one audience"):
            make(harness, given=realms(JWT_ISSUERS=issuers), issuers=[ring])
        make(harness, given=realms(JWT_ISSUERS=issuers), issuers=[Issuer(provider.url, audience="shop")])
    finally:
        provider.stop()


@however_it_runs
async def test_scopes_and_demands_are_the_realms_own(make_app):
    h = make(make_app)
    admin = h.jwt.realm("admin")
    admin.scopes_imply({"all": "read"})
    for path, realm in (("/a", "admin"), ("/p", "partner")):
        h.view(path, h.api.jwt_required(scopes="read", realm=realm)(new(h)))
    assert await outcome(h, await admin.create_access_token("7", scopes="all"), "/a") == 200
    answer = await h.call("/p", token=await h.jwt.create_access_token("7", scopes="all", realm="partner"))
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="partner", error="insufficient_scope"')


# -- revocation and sessions ---------------------------------------------------------------


@however_it_runs
async def test_revocations_reach_one_realm(make_app):
    h = make(make_app)
    admin = h.jwt.realm("admin")
    everyone = [f"/of-{name}" for name in NAMES]

    async def alive(made):
        return [await outcome(h, made[name], path) == 200 for name, path in zip(NAMES, everyone, strict=True)]

    async with h.context():
        made = await tokens(h)
        await admin.revoke_user("7")
        assert await alive(made) == [True, False, True]
        made = await tokens(h)
        await h.jwt.expire_access_tokens("7", realm="partner")
        assert await alive(made) == [True, True, False]
        made = await tokens(h, additional_claims={"jti": "one"})
        await h.jwt.revoke_token(made["admin"], realm="admin")
        assert await alive(made) == [True, False, True]
        made = await tokens(h)
        await h.jwt.revoke_user("7")
        assert await alive(made) == [False, True, True]
        made = await tokens(h)
        await admin.revoke_everything()
        assert await alive(made) == [True, False, True]
        made = await tokens(h)
        await h.jwt.revoke_everything()
        assert await alive(made) == [False, False, False]
        assert await alive(await tokens(h)) == [True, True, True]


@however_it_runs
async def test_sessions_are_listed_ended_and_counted_by_realm(make_app):
    h = make(make_app, given=realms(JWT_MAX_SESSIONS=1))
    admin = h.jwt.realm("admin")
    async with h.context():
        sids = {name: (await h.jwt.create_token_pair("7", realm=name, device=name)).sid for name in NAMES}
        for name in NAMES:
            page = await h.jwt.list_sessions("7", realm=name)
            assert [(each.sid, each.device) for each in page.sessions] == [(sids[name], name)]
        for other in ("", "partner"):
            assert await h.jwt.revoke_session(sids["admin"], realm=other) is False
            assert await h.jwt.revoke_session(sids[other], realm="admin") is False
        pair = await admin.create_token_pair("7")
        await h.jwt.create_token_pair("7")
        assert len((await admin.list_sessions("7")).sessions) == 1
        assert len((await h.jwt.list_sessions("7")).sessions) == 2
        assert await admin.revoke_session(pair.sid) is True
        await admin.create_token_pair("7")
        await admin.revoke_everything()
        assert (await admin.list_sessions("7")).sessions == ()
        assert len((await h.jwt.list_sessions("7")).sessions) == 2


@however_it_runs
async def test_a_replay_ends_the_session_in_a_realm_too(make_app):
    h = make(make_app, {"JWT_REFRESH_GRACE": 0})
    admin = h.jwt.realm("admin")

    @h.api.jwt_required(refresh=True, realm="admin")
    async def refresh():
        pair = await h.api.rotate_refresh_token()
        return {"tokens": [pair.access_token, pair.refresh_token]}

    h.view("/refresh-admin", refresh)
    async with h.context():
        first = (await admin.create_token_pair("7")).refresh_token
        adopted = await admin.create_refresh_token("8")
    for token in (first, adopted):
        access, second = (await h.call("/refresh-admin", token=token)).json["tokens"]
        assert await outcome(h, access, "/of-admin") == 200
        third = (await h.call("/refresh-admin", token=second)).json["tokens"][1]
        assert (await h.call("/refresh-admin", token=second)).code == "token_reused"
        assert (await h.call("/refresh-admin", token=third)).status == 401
        assert await outcome(h, access, "/of-admin") == "token_revoked"


@however_it_runs
async def test_a_token_is_used_once_in_its_realm(make_app):
    h = make(make_app)
    h.view("/use", h.api.jwt_required(type="reset", once=True, realm="admin")(new(h)), methods=["POST"])
    async with h.context():
        made = {
            name: await h.jwt.create_token("7", type="reset", additional_claims={"jti": "one"}, realm=name)
            for name in NAMES
        }
        assert await h.jwt.consume_token(made["partner"], realm="partner") is True
        assert await outcome(h, made["admin"], "/use", method="POST") == 200
        assert await outcome(h, made["admin"], "/use", method="POST") == "token_used"
        assert await h.jwt.consume_token(made["admin"], realm="admin") is False
        assert await h.jwt.consume_token(made[""]) is True
        more = [await h.jwt.create_token("7", type="reset", realm="admin") for _ in range(2)]
        assert await h.jwt.consume_token(more[0], others=True, realm="admin") is True
        assert await h.jwt.consume_token(more[1], realm="admin") is False


@however_it_runs
async def test_an_admin_signs_customers_out_until_it_is_banned(harness):
    """A ban counts in a request that goes on, whichever realm it acts upon."""
    h = make(harness)
    admin = h.jwt.realm("admin")
    engine = h.app.extensions["async_jwt"].of_realm("admin").engine()

    @h.api.jwt_required(realm="admin")
    async def view():
        await h.api.revoke_user("7", realm="")
        return {}

    @h.api.jwt_required(realm="admin")
    async def banned():
        await engine.store.revoke_user(realm_name("admin", "boss"))  # by another request, meanwhile
        await h.api.revoke_user("7", realm="")
        return {}

    h.view("/sign-out", view)
    h.view("/banned", banned)
    customer, boss = await h.jwt.create_access_token("7"), await admin.create_access_token("boss")
    assert await outcome(h, boss, "/sign-out") == 200
    assert await outcome(h, customer, "/of-") == "token_revoked"
    customer = await h.jwt.create_access_token("7")
    assert await outcome(h, boss, "/banned") == "token_revoked"
    assert await outcome(h, customer, "/of-") == 200


@on_both_kinds
async def test_signals_say_the_realm_and_the_plain_identity(harness):
    h = make(harness)
    admin = h.jwt.realm("admin")
    admin.user_lookup_loader(lambda header, claims: claims["sub"])
    seen = []

    def note(kind):
        def noted(sender, **given):
            seen.append((kind, given.get("identity"), given.get("realm")))

        return noted

    every = {"issued": token_issued, "refused": token_refused, "revoked": token_revoked, "user": user_loaded}
    notes = {kind: note(kind) for kind in every}
    for kind, signal in every.items():
        signal.connect(notes[kind], weak=False)
    try:
        async with h.context():
            token = await admin.create_access_token("7")
            assert await outcome(h, token, "/of-admin") == 200
            await admin.revoke_token(token)
            await admin.revoke_user("7")
            await h.jwt.revoke_user("7")
            assert await outcome(h, token, "/of-admin") == "token_revoked"
    finally:
        for kind, signal in every.items():
            signal.disconnect(notes[kind])
    kinds = ["issued", "user", "revoked", "revoked", "revoked", "refused"]
    assert [kind for kind, _, _ in seen] == kinds
    assert {identity for _, identity, _ in seen} == {"7"}
    assert [realm for _, _, realm in seen] == ["admin"] * 4 + [None, "admin"]


# -- which realm is meant ------------------------------------------------------------------


@however_it_runs
async def test_accessors_mean_the_realm_that_was_demanded_last(make_app):
    """An admin acts as a customer: two tokens in one request, which keep apart."""
    given = realms(JWT_TOKEN_LOCATION="headers", JWT_HEADER_NAME="X-Admin", JWT_HEADER_TYPE="")
    h = make(make_app, given=given)
    admin = h.jwt.realm("admin")
    admin.user_lookup_loader(lambda header, claims: f"admin {claims['sub']}")

    async def both():
        return {
            "now": h.api.get_jwt_identity(),
            "user": h.api.current_auth().user,
            "admin": h.api.current_auth("admin").identity,
            "customer": h.api.get_jwt_identity(realm=""),
            "users": [h.api.get_current_user("admin"), h.api.get_jwt("admin")["sub"]],
            "type": h.api.get_jwt_request_location(),
        }

    async def later():
        await h.api.verify_jwt_in_request()
        first = h.api.get_jwt_identity()
        await h.api.verify_jwt_in_request(realm="admin")
        second = h.api.get_jwt_identity()
        token = await h.api.create_access_token("new")
        return {"first": first, "second": second, "token": token}

    h.view("/as-customer", h.api.jwt_required(realm="admin")(h.api.jwt_required()(both)))
    h.view("/as-admin", h.api.jwt_required()(h.api.jwt_required(realm="admin")(both)))
    h.view("/later", later)
    made = await tokens(h)
    made["admin"] = await admin.create_access_token("boss")
    headers = {"X-Admin": made["admin"]}
    found = (await h.call("/as-customer", token=made[""], headers=headers)).json
    users = ["admin boss", "boss"]
    assert found.pop("users") == users
    assert found == {"now": "7", "user": None, "admin": "boss", "customer": "7", "type": "headers"}
    found = (await h.call("/as-admin", token=made[""], headers=headers)).json
    assert (found["now"], found["user"], found["customer"]) == ("boss", "admin boss", "7")
    for path in ("/as-customer", "/as-admin"):
        assert (await h.call(path, token=made[""])).status == 401
        assert (await h.call(path, headers=headers)).status == 401
        assert (await h.call(path, token=made["admin"], headers={"X-Admin": made[""]})).status == 401
    found = (await h.call("/later", token=made[""], headers=headers)).json
    assert (found["first"], found["second"]) == ("7", "boss")
    assert await outcome(h, None, "/of-admin", headers={"X-Admin": found["token"]}) == 200
    with pytest.raises(RuntimeError):
        h.api.current_auth("admin")


@however_it_runs
async def test_a_realm_that_was_not_checked_is_nobody(make_app):
    h = make(make_app)

    @h.api.jwt_required()
    async def view():
        return {"who": h.api.current_auth("admin").identity}

    async def failed():
        try:
            await h.api.verify_jwt_in_request(realm="admin")
        except Exception:  # noqa: BLE001  # as an application's
            return {"who": h.api.get_jwt_identity()}

    h.view("/other", view)
    h.view("/failed", h.api.jwt_required()(failed))
    token = await h.jwt.create_access_token("7")
    assert (await h.call("/other", token=token)).status == 500
    assert (await h.call("/failed", token=token)).status == 500  # not "7", whom the view did not ask for last


@on_both_kinds
async def test_templates_have_the_user_of_that_realm(harness):
    h = make(harness)
    h.jwt.init_app(h.app, add_context_processor=True)
    admin = h.jwt.realm("admin")
    h.jwt.user_lookup_loader(lambda header, claims: "a customer")
    admin.user_lookup_loader(lambda header, claims: "an admin")
    render = h.framework.render_template_string

    @h.api.jwt_required(realm="admin", optional=True)
    async def view():
        answer = render("{{ current_user }}")
        return answer if isinstance(answer, str) else await answer

    def plain():
        return render("{{ current_user }}")

    is_quart = h.framework.__name__ == "quart"
    h.view("/page", view if is_quart else h.api.jwt_required(realm="admin", optional=True)(plain))
    assert (await h.call("/page", token=await admin.create_access_token("7"))).body == b"an admin"
    assert (await h.call("/page")).body == b"None"


@on_both_kinds
async def test_an_optional_view_of_a_realm_is_no_unchecked_one(harness, caplog):
    h = make(harness)
    h.view("/maybe", h.api.jwt_required(realm="admin", optional=True)(new(h)))
    assert (await h.call("/maybe")).status == 200
    assert "never ran" not in caplog.text


class Desk:
    """A blueprint of a realm, with views of each kind."""

    def __init__(self, harness, outer=None, inner=None, deny=False, **views):
        h = self.h = make(harness, {"JWT_DEFAULT_DENY": deny})
        outside = h.framework.Blueprint("outside", "outside", url_prefix="/out")
        desk = h.framework.Blueprint("desk", "desk", url_prefix="/desk")

        def whose():
            async def view():
                return {"who": h.api.get_jwt_identity()}

            return view

        given = {
            "plain": h.colour(whose()),
            "own": h.api.jwt_required()(whose()),
            "scoped": h.api.jwt_required(scopes="x")(whose()),
            "maybe": h.api.jwt_required(optional=True)(whose()),
            "public": h.api.public(h.colour(whose())),
            **{name: h.api.jwt_required(**demands)(whose()) for name, demands in views.items()},
        }
        for name, view in given.items():
            desk.add_url_rule(f"/{name}", name, view)
        for blueprint, demands in ((outside, outer), (desk, inner)):
            if demands is not None:
                h.api.protect(blueprint, **demands)
        outside.register_blueprint(desk)
        h.app.register_blueprint(outside)

    async def outcomes(self, token, *paths):
        return [await outcome(self.h, token, f"/out/desk/{path}") for path in paths]


@however_it_runs
async def test_views_of_a_blueprint_mean_its_realm(harness):
    for outer, inner in (({"realm": "admin"}, None), (None, {"realm": "admin"}), ({"realm": "admin"}, {})):
        desk = Desk(harness, outer, inner)
        made = await tokens(desk.h, scopes="x")
        paths = ("plain", "own", "scoped", "maybe")
        assert await desk.outcomes(made["admin"], *paths) == [200] * 4
        for name in ("", "partner"):
            assert await desk.outcomes(made[name], *paths) == ["token_invalid"] * 4
        assert await desk.outcomes(None, *paths) == ["authorization_required"] * 4
        bare = await desk.h.jwt.create_access_token("7", realm="admin")
        assert await desk.outcomes(bare, *paths) == [200, 200, "insufficient_scope", 200]
        for route in routes_of(desk.h.app.extensions["async_jwt"]):
            if route.rule.startswith("/out/desk/") and not route.rule.endswith("public"):
                assert {policy.realm for policy in route.policies} == {"admin"}


@however_it_runs
async def test_a_realm_beside_default_deny_and_scopes_of_a_blueprint(harness):
    desk = Desk(harness, inner={"scopes": "desk"}, deny=True, admins={"realm": "admin"})
    made = await tokens(desk.h, scopes=["desk", "x"])
    assert await desk.outcomes(made[""], "plain", "own", "admins") == [200, 200, "token_invalid"]
    assert await desk.outcomes(made["admin"], "plain", "own", "admins") == ["token_invalid"] * 2 + [200]
    bare = await desk.h.jwt.create_access_token("7", realm="admin")
    assert await desk.outcomes(bare, "admins") == ["insufficient_scope"]
    assert await outcome(desk.h, made["admin"], "/open") == "token_invalid"
    assert await outcome(desk.h, made[""], "/open") == 200


async def starts(h):
    """What keeps an application from serving."""
    if h.framework.__name__ == "quart":
        with pytest.raises(Exception, match="startup") as caught:
            async with h.app.test_app():
                pass
        return str(caught.value)
    answer = await h.call("/open")
    assert answer.status == 500
    return ""


@however_it_runs
async def test_contradictions_are_refused_at_the_start(harness, caplog):
    for arguments in (
        {"inner": {"realm": "partner"}, "other": {"realm": "admin"}},
        {"outer": {"realm": "partner"}, "inner": {"realm": "admin"}},
        {"one": {"realm": "unheard"}},
        {"outer": {"realm": "unheard"}},
    ):
        caplog.clear()
        said = await starts(Desk(harness, **arguments).h) or caplog.text
        assert "No token belongs to two realms, 'admin' and 'partner'" in said or (
            "There is no realm 'unheard'" in said
        )


@on_both_kinds
async def test_a_check_before_the_request_must_be_of_the_realm(harness):
    for before, status in (({}, "token_invalid"), ({"realm": "admin"}, 200)):
        h = make(harness)
        desk = h.framework.Blueprint("desk", "desk", url_prefix="/desk")
        desk.add_url_rule("/", "view", new(h))

        async def nothing():
            return None

        desk.before_request(h.api.jwt_required(**before)(nothing))
        h.app.register_blueprint(h.api.protect(desk, realm="admin"))
        made = await tokens(h)
        assert await outcome(h, made["admin"], "/desk/") == status
        assert await outcome(h, made[""], "/desk/") == "token_invalid"


# -- cookies -------------------------------------------------------------------------------

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies"]}


def values(answer):
    return {name: line.partition("=")[2].partition(";")[0] for name, line in answer.cookies.items()}


@however_it_runs
async def test_two_logins_two_logouts_and_no_csrf_value_mixed(make_app):
    h = make(make_app, COOKIES)

    async def login(realm):
        response = h.app.response_class("in")
        h.api.set_token_cookies(response, await h.api.create_token_pair(realm or "7", realm=realm))
        return response

    async def logout(realm):
        response = h.app.response_class("out")
        await h.api.sign_out(response, realm=realm)
        return response

    for name in NAMES[:2]:
        for path, work in (("in", login), ("out", logout)):

            async def view(work=work, name=name):
                return await work(name)

            h.view(f"/{path}-{name}", view, methods=["POST"])
    jar = {}
    for name in NAMES[:2]:
        answer = await h.call(f"/in-{name}", method="POST")
        assert len(answer.cookies) == 4
        jar.update(values(answer))
    assert sorted(jar) == sorted(
        prefix + name
        for prefix in ("", "admin_")
        for name in ("access_token_cookie", "refresh_token_cookie", "csrf_access_token", "csrf_refresh_token")
    )
    csrf = {"": jar["csrf_access_token"], "admin": jar["admin_csrf_access_token"]}
    assert csrf[""] != csrf["admin"]
    for view, value in itertools.product(csrf, csrf):
        answer = await h.call(
            f"/of-{view}", method="POST", cookies=jar, headers={"X-CSRF-TOKEN": csrf[value]}
        )
        assert answer.status == (200 if view == value else 401)
        if view == value:
            assert answer.json["who"] == (view or "7")
    swapped = {**jar, "access_token_cookie": jar["admin_access_token_cookie"]}
    assert (await h.call("/of-", cookies=swapped)).status == 401
    answer = await h.call("/out-admin", method="POST", cookies=jar)
    assert sorted(answer.cookies) == sorted(name for name in jar if name.startswith("admin_"))
    assert (await h.call("/of-admin", cookies=jar)).code == "token_revoked"
    assert (await h.call("/of-", cookies=jar)).status == 200
    answer = await h.call("/out-", method="POST", cookies=jar)
    assert sorted(answer.cookies) == sorted(name for name in jar if not name.startswith("admin_"))
    assert (await h.call("/of-", cookies=jar)).status == 401


@on_both_kinds
async def test_pages_and_expiring_cookies_of_a_realm(harness):
    h = make(harness, COOKIES, given=realms(JWT_LOGIN_VIEW="/staff-login"))

    async def login():
        response = h.app.response_class("in")
        h.api.set_token_cookies(response, await h.api.create_token_pair("boss", realm="admin"))
        return response

    async def page():
        return {"who": h.api.get_jwt_identity(), "csrf": bool(h.api.jwt_csrf_token())}

    h.view("/in", login)
    h.view("/staff-login", h.api.public(new(h)))
    h.view("/page", h.api.jwt_required(realm="admin", refresh_cookie=True)(page))
    h.view("/kept", h.api.jwt_required(realm="admin")(page))

    async def after(response):
        return await h.api.refresh_expiring_cookies(response, within=10_000)

    def after_plain(response):
        return response

    h.app.after_request(after if h.framework.__name__ == "quart" else after_plain)
    jar = values(await h.call("/in"))
    here = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
    answer = await h.call(
        "/page", cookies={"admin_refresh_token_cookie": jar["admin_refresh_token_cookie"]}, headers=here
    )
    assert answer.json == {"who": "boss", "csrf": True}
    assert all(name.startswith("admin_") for name in answer.cookies)
    jar = values(answer)
    answer = await h.call("/kept", cookies=jar)
    assert answer.status == 200
    if h.framework.__name__ == "quart":
        assert all(name.startswith("admin_") for name in answer.cookies)
        assert len(answer.cookies) == 4
    answer = await h.call("/page", headers=here)
    assert answer.status == 302
    assert answer.headers["Location"].endswith("/staff-login?next=%2Fpage")  # absolute in older Flasks
    revoked = await h.call("/kept", cookies={"admin_access_token_cookie": "no.to.ken"})
    assert all(name.startswith("admin_") for name in revoked.cookies)
    assert len(revoked.cookies) == 2


@on_both_kinds
async def test_cookie_scopes_of_a_realm(harness):
    h = make(harness, COOKIES)
    admin = h.jwt.realm("admin")
    admin.cookie_scope_loader(
        lambda request: (
            h.api.CookieScope(request.headers["X-Tenant"]) if "X-Tenant" in request.headers else None
        )
    )

    async def login():
        response = h.app.response_class("in")
        h.api.set_access_cookies(response, await h.api.create_access_token("boss", realm="admin"))
        return response

    h.view("/in", login)
    jar = values(await h.call("/in", headers={"X-Tenant": "acme"}))
    assert sorted(jar) == ["acme_admin_access_token_cookie", "acme_admin_csrf_access_token"]
    assert (await h.call("/of-admin", cookies=jar, headers={"X-Tenant": "acme"})).status == 200
    assert (await h.call("/of-admin", cookies=jar)).status == 401


# -- settings ------------------------------------------------------------------------------


@on_both_kinds
async def test_wrong_realms_are_refused(harness):
    for given, text in (
        (["admin"], "JWT_REALMS must be a dict"),
        ({"admin": 7}, "JWT_REALMS must be a dict"),
        ({"ad min": {}}, "1 to 64 letters"),
        ({"": {}}, "1 to 64 letters"),
        ({7: {}}, "1 to 64 letters"),
        ({"admin": {"JWT_SECRET_KEYS": ADMIN}}, r"JWT_REALMS\['admin'\] has 'JWT_SECRET_KEYS'.*no setting"),
        ({"admin": {"SECRET_KEY": ADMIN}}, "no setting|whole application"),
        ({"admin": {"JWT_STORE_URI": "memory://"}}, "whole application"),
        ({"admin": {"JWT_DEFAULT_DENY": True}}, "whole application"),
        ({"admin": {"JWT_ALGORITHM": "none"}}, r"JWT_REALMS\['admin'\]: JWT_ALGORITHM must be"),
        (realms(JWT_ACCESS_COOKIE_NAME="access_token_cookie"), "the cookie 'access_token_cookie' is one of"),
        (realms(JWT_ISSUERS={"https://a.example": {}}), "audience"),
        (
            realms(
                JWT_ENCODE_ISSUER="https://a.example", JWT_ISSUERS={"https://a.example": {"audience": "a"}}
            ),
            "'admin'",
        ),
    ):
        with pytest.raises(ConfigurationError, match=text):
            make(harness, given=given)
    h = harness()
    for name in ("", "a b", 7, "x" * 65):
        with pytest.raises(ConfigurationError, match="1 to 64"):
            h.jwt.realm(name)
        with pytest.raises(ConfigurationError, match=r"1 to 64|realm"):
            Policy.of(realm=name)
    admin = h.jwt.realm("admin", keys=KeyRing(Key.generate()))
    with pytest.raises(ConfigurationError, match="exists already"):
        h.jwt.realm("admin", keys=KeyRing(Key.generate()))
    with pytest.raises(ConfigurationError, match="has no realms"):
        admin.realm("more")
    with pytest.raises(ConfigurationError, match="call init_app on that"):
        admin.init_app(h.make_app())
    async with h.context():
        with pytest.raises(ConfigurationError, match="There is no realm 'unheard'"):
            await h.jwt.create_access_token("7", realm="unheard")


@on_both_kinds
async def test_a_realm_needs_keys_of_its_own(harness, caplog):
    for given in ({"admin": {}}, {"admin": {"JWT_ACCESS_TOKEN_EXPIRES": 60}}):
        caplog.clear()
        said = await starts(make(harness, {"SECRET_KEY": "s" * 40}, given)) or caplog.text
        assert "The realm 'admin' has no keys of its own" in said
    h = harness()
    h.jwt.realm("typo")
    caplog.clear()
    assert "The realm 'typo' has no keys of its own" in (await starts(h) or caplog.text)
    h = harness({"SECRET_KEY": "s" * 40})
    loaded = h.jwt.realm("loaded")
    loaded.encode_key_loader(lambda identity: ADMIN)
    loaded.decode_key_loader(lambda header, claims: ADMIN)
    h.view("/loaded", h.api.jwt_required(realm="loaded")(new(h)))
    assert await outcome(h, await loaded.create_access_token("7"), "/loaded") == 200


@on_both_kinds
async def test_no_key_and_no_issuer_is_inherited(harness):
    provider = Provider()
    try:
        config = {
            "SECRET_KEY": "s" * 40,
            "SECRET_KEY_FALLBACKS": ["t" * 40],
            "JWT_SECRET_KEY_FALLBACKS": ["u" * 40],
            "JWT_ISSUERS": {provider.url: {"audience": "shop"}},
        }
        h = make(harness, config)
        assert await outcome(h, provider.token(aud="shop"), "/of-") == 200
        assert await outcome(h, provider.token(aud="shop"), "/of-admin") == "token_invalid"
        claims = pyjwt.decode(
            await h.jwt.create_access_token("7", realm="admin"), options={"verify_signature": False}
        )
        for secret in ("s" * 40, "t" * 40, "u" * 40, SECRET):
            assert await outcome(h, pyjwt.encode(claims, secret), "/of-admin") == "token_invalid"
        assert await outcome(h, pyjwt.encode(claims, ADMIN), "/of-admin") == 200
        # Nor does SECRET_KEY verify where an algorithm would need it.
        given = realms(
            JWT_ALGORITHM="RS256", JWT_PRIVATE_KEY=PRIVATE["RS256"], JWT_DECODE_ALGORITHMS=["HS256"]
        )
        del given["admin"]["JWT_SECRET_KEY"]
        h = make(harness, config, given)
        with pytest.raises(ConfigurationError, match="no key for HS256"):
            await h.jwt.create_access_token("7", realm="admin")
    finally:
        provider.stop()


@on_both_kinds
async def test_equal_secrets_are_a_warning(harness, caplog):
    make(harness, given={"admin": {"JWT_SECRET_KEY": SECRET}, "partner": {"JWT_SECRET_KEY": PARTNER}})
    (record,) = [each for each in caplog.records if each.event == "realms_share_key"]
    assert record.getMessage().startswith("The unnamed realm and The realm 'admin' have the same key")
    assert SECRET not in record.getMessage()
    caplog.clear()
    make(harness)
    assert not caplog.records


@however_it_runs
async def test_settings_of_a_realm_change_at_run_time(make_app):
    h = make(make_app)
    token = await h.jwt.create_access_token("7", realm="admin")
    assert await outcome(h, token, "/of-admin") == 200
    h.app.config["JWT_REALMS"]["admin"]["JWT_SECRET_KEY"] = "b" * 40
    assert await outcome(h, token, "/of-admin") == "token_invalid"
    h.app.config["JWT_REALMS"] = realms()
    assert await outcome(h, token, "/of-admin") == 200
    h.app.config["JWT_REALMS"] = {"partner": {"JWT_SECRET_KEY": PARTNER}}
    assert (await h.call("/of-admin", token=token)).status == 500
    h.app.config["JWT_REALMS"] = None
    assert (await h.call("/of-admin", token=token)).status == 500
    assert await outcome(h, await h.jwt.create_access_token("7"), "/of-") == 200
    h.app.config["JWT_REALMS"] = realms()
    assert await outcome(h, token, "/of-admin") == 200


@on_both_kinds
async def test_a_realm_that_is_made_after_the_application(harness):
    h = make(harness)
    admin = h.jwt.realm("admin")
    admin.issuer_loader(lambda iss: None)
    late = h.jwt.realm("late", keys=KeyRing(Key(ADMIN, "HS256")))
    h.view("/late", h.api.jwt_required(realm="late")(new(h)))
    token = await late.create_access_token("7")
    assert await outcome(h, token, "/late") == 200
    assert await outcome(h, token, "/of-admin") == "realm_wrong"


@on_both_kinds
async def test_one_manager_of_several_applications_has_its_realms_in_each(harness):
    one, other = (
        harness({"JWT_REALMS": realms()}),
        harness({"JWT_REALMS": {"admin": {"JWT_SECRET_KEY": "c" * 40}}}),
    )
    shared = harness.api.JWTManager()
    admin = shared.realm("admin")
    for h in (one, other):
        del h.app.extensions["async_jwt"]
        shared.init_app(h.app)
        h.view("/of-admin", h.api.jwt_required(realm="admin")(new(h)))
    async with one.context():
        token = await admin.create_access_token("7")
    assert await outcome(one, token, "/of-admin") == 200
    assert await outcome(other, token, "/of-admin") == "token_invalid"
    with pytest.raises(RuntimeError, match="several applications"):
        await admin.create_access_token("7")


@on_both_kinds
async def test_a_second_manager_is_refused(harness):
    h = harness()
    with pytest.raises(ConfigurationError, match=r"already has a JWTManager.*jwt\.realm\(name\)"):
        h.api.JWTManager(h.app)
    h.jwt.init_app(h.app)
    assert (await h.call(token=await h.mint())).status == 200


# -- tools ---------------------------------------------------------------------------------


@on_both_kinds
async def test_helpers_know_realms(harness, nothing_blocks):
    from tests.adapters.test_helpers_for_application_tests import ask

    nothing_blocks.deactivate()
    h = make(harness, COOKIES)
    for location in ("cookies", "headers"):
        client = jwt_client(h.app, "7", realm="admin", location="cookies", scopes="x")
        status, found = await ask(client, "/of-admin")
        assert (status, found["who"], found["claims"]["scope"], location) == (200, "7", "x", location)
        assert (await ask(client, "/of-"))[0] == 401
    with pytest.raises(ConfigurationError, match="no realm"):
        jwt_client(h.app, "7", realm="unheard")
    with frozen_clock(h.app) as clock:
        client = jwt_client(h.app, "7", realm="admin", location="cookies")
        assert (await ask(client, "/of-admin"))[0] == 200
        clock.tick(301)
        assert (await ask(client, "/of-admin"))[1]["code"] in ("token_expired", "authorization_required")
    client = jwt_client(h.app, "7", realm="admin", location="cookies")
    with outage(h.app):
        assert (await ask(client, "/of-admin"))[0] == 503
    assert (await ask(client, "/of-admin"))[0] == 200


@on_both_kinds
async def test_a_store_of_ones_own_serves_all_realms(harness):
    class Plain:
        """No sessions, no single use: the four methods of a blocklist."""

        def __init__(self):
            self._store = MemoryStore()
            for name in (
                "stamp",
                "check",
                "revoke_token",
                "revoke_session",
                "revoke_user",
                "revoke_everything",
            ):
                setattr(self, name, getattr(self._store, name))

        async def start(self):
            pass

        close = start

    h = make(harness, store=Plain())
    admin = h.jwt.realm("admin")
    made = await tokens(h)
    async with h.context():
        await admin.revoke_everything()
        assert [await outcome(h, made[name], f"/of-{name}") for name in NAMES] == [200, "token_revoked", 200]
        with pytest.raises(ConfigurationError, match="Plain has no consume_token"):
            await admin.consume_token(await admin.create_token("7", type="x"))
        pair = await admin.create_token_pair("7")
        assert await outcome(h, pair.access_token, "/of-admin") == 200
        await admin.revoke_session(pair.sid)
        assert await outcome(h, pair.access_token, "/of-admin") == "token_revoked"


@NEEDS_QUART
async def test_websockets_have_realms():
    from quart import Blueprint, websocket

    from tests.adapters.test_websockets import Sockets, api

    h = Sockets({"JWT_REALMS": realms()})

    def echo():
        async def view():
            await websocket.send_json({"who": api.get_jwt_identity(), "got": await websocket.receive()})

        return view

    async def late():
        await websocket.accept()
        await api.verify_jwt_in_request(realm="admin")

    desk = Blueprint("desk", "desk", url_prefix="/desk")
    desk.add_websocket("/plain", "plain", echo())
    h.app.register_blueprint(api.protect(desk, realm="admin"))
    h.app.add_websocket("/ws/admin", "admin_socket", api.jwt_required(realm="admin")(echo()))
    h.app.add_websocket("/ws/late-admin", "late_admin", late)
    made = await tokens(h)
    for path in ("/ws/admin", "/desk/plain"):
        for name, token in made.items():
            headers = {"Authorization": f"Bearer {token}"}
            if name == "admin":
                async with h.connect(path, headers=headers) as socket:
                    assert await socket.ask("hi") == {"who": "7", "got": "hi"}
            else:
                assert (await h.refused(path, headers=headers)).status == 401
    async with h.connect("/ws/late-admin") as socket:
        await socket.over()
    assert (socket.closed["code"], socket.closed["reason"]) == (1008, "authorization_required")


@on_a_servers_loop
async def test_a_realms_async_loaders_run_where_others_do(harness):
    import asyncio

    loops = set()
    h = make(harness)
    admin = h.jwt.realm("admin")

    @admin.user_lookup_loader
    async def load(header, claims):
        loops.add(asyncio.get_running_loop())
        return claims["sub"]

    @admin.additional_claims_loader
    async def claims(identity):
        loops.add(asyncio.get_running_loop())
        return {}

    async def mint():
        return {"token": await h.api.create_access_token("7", realm="admin")}

    h.view("/mint", mint)
    for _ in range(2):
        token = (await h.call("/mint")).json["token"]
        assert await outcome(h, token, "/of-admin") == 200
    assert len(loops) == 1
