"""What a view demands beyond a token: scopes, roles, claims and the application's own word."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import types

import pytest

from async_jwt.core.policy import Policy
from async_jwt.errors import ConfigurationError, InsufficientScopeError, PermissionDeniedError
from async_jwt.signals import token_refused, user_loaded
from tests.adapters.test_bad_input_is_never_a_500 import signed
from tests.adapters.test_default_deny import audit, lost, method_view, new
from tests.harness import SECRET
from tests.harness.applications import NEEDS_QUART, however_it_runs, on_both_kinds

pytestmark = pytest.mark.asyncio


async def nothing():
    return None


def guarded(h, path="/guarded", **demands):
    h.view(path, h.api.jwt_required(**demands)(new(h)), methods=["GET", "POST", "OPTIONS"])
    return path


async def outcome(h, token, path="/guarded", **options):
    answer = await h.call(path, token=token, **options)
    return answer.status if answer.status == 200 else f"{answer.status} {answer.code}"


WHO = ("shop", "outer", "inner")
NO_SCOPE, DENIED = "403 insufficient_scope", "403 permission_denied"


# -- what is demanded ----------------------------------------------------------------------


@however_it_runs
async def test_a_token_without_the_scope_is_refused_and_told_which(harness):
    h = harness()
    guarded(h, scopes=["orders:read", "orders:write"])
    assert await outcome(h, await h.mint(scopes=["orders:write", "x", "orders:read"])) == 200
    answer = await h.call("/guarded", token=await h.mint(scopes="orders:read"))
    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_scope", error_description="The token lacks a scope that this resource '
        'requires", scope="orders:read orders:write"'
    )
    assert answer.json["msg"] == "The token lacks a scope that this resource requires"
    assert (await h.call("/guarded")).status == 401
    assert (await h.call("/guarded", method="OPTIONS")).status == 200


@however_it_runs
async def test_roles_and_claims_are_refused_without_a_challenge(harness):
    h = harness()
    guarded(h, "/roles", roles=["admin", h.api.any_of("eu", "us")])
    guarded(h, "/claims", claims={"email_verified": True, "plan": {"name": "pro", "seats": [1, 2]}})
    for roles, status in ((["admin", "us"], 200), (["us"], DENIED), (["admin"], DENIED), (None, DENIED)):
        assert await outcome(h, await h.mint(roles=roles), "/roles") == status
    plan = {"name": "pro", "seats": [1, 2]}
    for claims, status in (
        ({"email_verified": True, "plan": plan}, 200),
        ({"email_verified": 1, "plan": plan}, DENIED),
        ({"email_verified": "true", "plan": plan}, DENIED),
        ({"email_verified": True, "plan": {**plan, "seats": [2, 1]}}, DENIED),
        ({"email_verified": True, "plan": {**plan, "more": 1}}, DENIED),
        ({"email_verified": True}, DENIED),
    ):
        assert await outcome(h, await h.mint(additional_claims=claims), "/claims") == status
    answer = await h.call("/roles", token=await h.mint())
    assert "WWW-Authenticate" not in answer.headers
    assert answer.json == {"msg": "Permission denied", "code": "permission_denied"}


@however_it_runs
async def test_any_of_needs_one_of_them(harness):
    h = harness()
    guarded(h, scopes=["base", h.api.any_of("read", "write")])
    for scopes, status in (("base read", 200), ("base write", 200), ("base", NO_SCOPE), ("read", NO_SCOPE)):
        assert await outcome(h, await h.mint(scopes=scopes.split())) == status
    answer = await h.call("/guarded", token=await h.mint())
    assert answer.headers["WWW-Authenticate"].endswith('scope="base read"')


@however_it_runs
async def test_allow_has_the_last_word(harness):
    h = harness()
    asked = []

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        return {"name": claims["sub"]}

    async def later(found):
        asked.append(found.user["name"])
        return found.identity == "alice"

    guarded(h, "/async", scopes="x", allow=later)
    guarded(h, "/plain", allow=lambda found: found.claims["sub"] == "alice")
    for path in ("/async", "/plain"):
        assert await outcome(h, await h.mint("alice", scopes="x"), path) == 200
        assert await outcome(h, await h.mint("bob", scopes="x"), path) == DENIED
    assert await outcome(h, await h.mint("carol"), "/async") == NO_SCOPE
    assert asked == ["alice", "bob"]


@on_both_kinds
@pytest.mark.parametrize("word", [1, None, "yes", lambda: True, types.SimpleNamespace()])
@pytest.mark.parametrize("preset", [None, "flask-jwt-extended"])
async def test_what_allow_may_not_say_opens_nothing(harness, word, preset):
    h = harness({"JWT_COMPAT": preset})
    guarded(h, allow=lambda found: word)
    assert (await h.call("/guarded", token=await h.mint())).status == 500


@on_both_kinds
async def test_an_async_allow_runs_where_async_hooks_run(harness):
    """A pool that it opened lives on one event loop, and no view's own."""
    h, loops = harness(), set()

    async def later(found):
        loops.add(asyncio.get_running_loop())
        return True

    async def inside():
        await h.api.verify_jwt_in_request(allow=later)
        await h.api.authenticate_token(token, allow=later)
        return {}

    token = await h.mint()
    guarded(h, allow=later)
    h.view("/inside", inside)
    blueprint = h.framework.Blueprint("shop", "shop", url_prefix="/shop")
    blueprint.add_url_rule("/", "view", new(h))
    h.app.register_blueprint(h.api.protect(blueprint, allow=later))
    for path in ("/guarded", "/inside", "/shop/", "/guarded"):
        assert await outcome(h, token, path) == 200
    assert len(loops) == 1


@however_it_runs
async def test_what_scopes_imply_is_the_applications_word_alone(harness):
    h = harness()
    h.jwt.scopes_imply({"orders:all": ["orders:read", "orders:write"], "root": "orders:all"})
    h.jwt.scopes_imply({"orders:write": "orders:draft", "orders:draft": "orders:write"})
    guarded(h, scopes=["orders:read", "orders:draft"])
    for scopes, status in (
        ("orders:all", 200),
        ("root", 200),
        ("orders:read orders:write", 200),
        ("orders:write", NO_SCOPE),
        ("orders:*", NO_SCOPE),
        ("*", NO_SCOPE),
        ("ORDERS:ALL", NO_SCOPE),
        ("orders", NO_SCOPE),
    ):
        assert await outcome(h, await h.mint(scopes=scopes.split())) == status


FORMS = {
    "text": "wanted other",
    "one": "wanted",
    "list": ["other", "wanted"],
    "duplicate": ["wanted"] * 3,
    "object": {"wanted": {"org": 1}},
    "many": [*map(str, range(10_000)), "wanted"],
}
EMPTY = {
    "missing": None,
    "empty text": "",
    "empty list": [],
    "empty object": {},
    "numbers": [1, 2.5, 10**400, True],
    "number": 7,
    "true": True,
    "nested": [["wanted"], {"wanted": True}],
    "prefix": "wanted:more wante",
    "case": "Wanted WANTED",
    "inside": "unwanted wantedly",
    "wildcard": "* want* *",
    "other spaces": "wanted\tother\nwanted",
    "refused": {"wanted": False, "wanted ": True},
    "empty in an object": {"wanted": []},
    "zero": {"wanted": 0},
    "nothing": {"wanted": None},
    "many": [f"wanted{number}" for number in range(10_000)],
}


@on_both_kinds
@pytest.mark.parametrize("name", ["scope", "roles"])
@pytest.mark.parametrize("form", [*FORMS, *(f"no: {name}" for name in EMPTY)])
async def test_each_form_of_a_claim_grants_whole_words_or_nothing(harness, name, form):
    h = harness({"JWT_MAX_TOKEN_BYTES": 1_000_000})
    guarded(h, **({"roles": "wanted"} if name == "roles" else {"scopes": "wanted"}))
    value = EMPTY[form.removeprefix("no: ")] if form.startswith("no: ") else FORMS[form]
    token = await h.mint(additional_claims={name: value})
    # A role is the whole text.
    grants = form in FORMS and not (name == "roles" and form == "text")
    refusal = DENIED if name == "roles" else NO_SCOPE
    headers = {"Authorization": f"Bearer {token}"}
    assert await outcome(h, None, headers=headers) == (200 if grants else refusal)


@however_it_runs
async def test_they_are_looked_at_last(harness):
    h, seen = harness(), []
    guarded(h, scopes="wanted", allow=lambda found: seen.append(1) or True)
    guarded(h, "/fresh-one", scopes="wanted", fresh=True)
    token = await h.mint()
    signature = token.rpartition(".")[2]
    forged = token.replace(signature, signature[::-1])
    assert await outcome(h, forged) == "401 token_invalid"
    assert await outcome(h, await h.mint(expires_delta=-1)) == "401 token_expired"
    assert await outcome(h, await h.mint_refresh()) == "401 token_type_wrong"
    assert await outcome(h, token, "/fresh-one") == "401 fresh_token_required"
    assert await outcome(h, token) == NO_SCOPE
    async with h.context():
        await h.jwt.revoke_token(token)
    assert await outcome(h, token) == "401 token_revoked"
    h.jwt.token_verification_loader(lambda header, claims: False)
    assert await outcome(h, await h.mint()) == "400 claims_rejected"
    assert seen == []


@however_it_runs
async def test_a_refused_request_is_nobody(harness):
    h = harness()
    refused, loaded = [], []
    note = lambda sender, **given: refused.append((given["code"], given["identity"]))  # noqa: E731
    noted = lambda sender, **given: loaded.append(given["identity"])  # noqa: E731
    h.jwt.user_lookup_loader(lambda header, claims: claims["sub"])

    async def inside():
        try:
            await h.api.verify_jwt_in_request(scopes="wanted")
        except PermissionDeniedError:
            return {"who": h.api.get_jwt_identity()}
        return {}

    h.view("/inside", inside)
    guarded(h, scopes="wanted")
    with token_refused.connected_to(note), user_loaded.connected_to(noted):
        assert await outcome(h, await h.mint()) == NO_SCOPE
        assert (await h.call("/inside", token=await h.mint())).status == 500  # "No token check has passed"
    assert refused == [("insufficient_scope", "alice")] * 2
    assert loaded == []


@however_it_runs
async def test_the_application_answers_with_a_loader_or_a_handler(harness):
    h = harness()
    guarded(h, "/scopes", scopes=["a", "b"])
    guarded(h, "/roles", roles="admin")

    @h.jwt.insufficient_scope_loader
    async def say(header, claims, error):
        return {"who": claims["sub"], "lacks": error.error_code, "needs": getattr(error, "scopes", ())}, 403

    for path, code, needs in (
        ("/scopes", "insufficient_scope", ["a", "b"]),
        ("/roles", "permission_denied", []),
    ):
        answer = await h.call(path, token=await h.mint())
        assert answer.json == {"who": "alice", "lacks": code, "needs": needs}


@on_both_kinds
async def test_a_login_page_is_no_way_out(harness):
    """Who is signed in already would come back, and be refused again."""
    h = harness({"JWT_LOGIN_VIEW": "/login", "JWT_TOKEN_LOCATION": ["headers", "cookies"]})
    guarded(h, scopes="wanted")
    page = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await h.call("/guarded", headers=page)).status == 302
    assert (await h.call("/guarded", headers=page, token=await h.mint())).status == 403


@on_both_kinds
async def test_numbers_are_compared_with_their_type(harness):
    h = harness()
    guarded(h, claims={"limit": 7})
    text = '{"sub":"alice","type":"access","jti":"1","limit":%s}'
    for limit, status in (("7", 200), ("7.0", DENIED), ("8", DENIED), ("1e999", "401 token_invalid")):
        assert await outcome(h, signed((text % limit).encode())) == status


@on_both_kinds
async def test_once_and_optional(harness):
    h = harness()
    guarded(h, "/once", type="reset", once=True, scopes="wanted")
    guarded(h, "/maybe", optional=True, roles="admin")
    async with h.context():
        lacking = await h.jwt.create_token("alice", type="reset")
        token = await h.jwt.create_token("alice", type="reset", scopes="wanted")
    assert [await outcome(h, lacking, "/once", method="POST") for _ in range(2)] == [NO_SCOPE] * 2
    assert await outcome(h, token, "/once", method="POST") == 200
    assert await outcome(h, token, "/once", method="POST") == "401 token_used"
    assert await outcome(h, None, "/maybe") == 200
    assert await outcome(h, await h.mint(), "/maybe") == DENIED


def nested():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


async def test_wrong_demands_are_refused_when_decorated():
    for demands, text in (
        ({"scopes": "orders read"}, "give a list"),
        ({"scopes": ["a", "orders read"]}, "give a list"),
        ({"scopes": []}, "demands nothing"),
        ({"scopes": ""}, "must hold names"),
        ({"scopes": [1]}, "must hold names"),
        ({"scopes": 1}, "must be text"),
        ({"scopes": b"a"}, "must be text"),
        ({"scopes": {"a": 1}}, "must be text"),
        ({"scopes": 'a"'}, "no name of a scope"),
        ({"scopes": "ä"}, "no name of a scope"),
        ({"roles": ""}, "must hold names"),
        ({"roles": []}, "demands nothing"),
        ({"claims": {}}, "must be a dict"),
        ({"claims": {1: 2}}, "must be a dict"),
        ({"claims": ["a"]}, "must be a dict"),
        ({"claims": {"a": float("nan")}}, "values that JSON has"),
        ({"claims": {"a": object()}}, "values that JSON has"),
        ({"claims": {"a": {1: 2}}}, "values that JSON has"),
        ({"claims": {"a": nested()}}, "values that JSON has"),
        ({"roles": "  "}, "must hold names"),
        ({"allow": True}, "needs a callable"),
        ({"allow": lambda: True}, r"\(authentication\)"),
        ({"allow": type("Rule", (), {})}, "cannot take the class"),
        ({"allow": lambda found: (yield)}, "generator"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            Policy.of(**demands)
    from async_jwt.adapters.flask import any_of

    for names in ((), ("a",), ("a", 1)):
        with pytest.raises(ConfigurationError, match="any_of"):
            any_of(*names)


@on_both_kinds
async def test_wrong_words_of_an_application(harness):
    h = harness()
    for implied in (
        {"a b": "c"},
        {"a": "b c"},
        {"a": []},
        {"a": 1},
        {1: "a"},
        ["a"],
        {"a": h.api.any_of("b", "c")},
    ):
        with pytest.raises(ConfigurationError):
            h.jwt.scopes_imply(implied)
    for given in ({"scopes": "a b"}, {"scopes": 7}, {"roles": [7]}, {"scopes": [""]}):
        with pytest.raises(ValueError, match=r"scopes|roles"):
            await h.mint(**given)
    with pytest.raises(ValueError, match="not both"):
        await h.mint(scopes="a", additional_claims={"scope": "b"})


# -- demands add up ------------------------------------------------------------------------


@however_it_runs
async def test_stacked_decorators_add_up(harness):
    h = harness()
    outer, inner = h.api.jwt_required(scopes="a", roles="x"), h.api.jwt_required(scopes="b", claims={"c": 1})
    h.view("/guarded", outer(inner(new(h))))
    for scopes, roles, claims, status in (
        ("a b", "x", {"c": 1}, 200),
        ("a", "x", {"c": 1}, NO_SCOPE),
        ("b", "x", {"c": 1}, NO_SCOPE),
        ("a b", "y", {"c": 1}, DENIED),
        ("a b", "x", {"c": True}, DENIED),
    ):
        token = await h.mint(scopes=scopes.split(), roles=roles, additional_claims=claims)
        assert await outcome(h, token) == status
    answer = await h.call("/guarded", token=await h.mint(scopes="a"))
    assert answer.headers["WWW-Authenticate"].endswith('scope="a b"')


@on_both_kinds
async def test_each_allow_of_a_stack_is_asked_once(harness):
    h, asked = harness(), []
    rules = [lambda found, word=word: asked.append(word) or True for word in "ab"]
    h.view("/guarded", h.api.jwt_required(allow=rules[0])(h.api.jwt_required(allow=rules[1])(new(h))))
    assert await outcome(h, await h.mint()) == 200
    assert asked == ["a", "b"]


@however_it_runs
async def test_methods_of_a_class_have_their_own(harness):
    h = harness()
    handlers = {
        name: h.api.jwt_required(scopes=name)(h.colour(lambda self: {"ran": True}))
        for name in ("get", "post")
    }
    h.view("/guarded", method_view(h, decorators=[h.api.jwt_required(roles="all")], **handlers))
    reads = await h.mint(scopes="get", roles="all")
    assert await outcome(h, reads) == 200
    assert await outcome(h, reads, method="POST") == NO_SCOPE
    assert await outcome(h, await h.mint(scopes="get")) == DENIED


class Shop:
    """A blueprint with each kind of view, on another blueprint."""

    def __init__(self, harness, outer=None, inner=None, deny=False, before=None):
        h = self.h = harness({"JWT_DEFAULT_DENY": deny})
        shop = h.framework.Blueprint("shop", "shop", url_prefix="/shop")
        desk = h.framework.Blueprint("desk", "desk", url_prefix="/desk")
        for path, view in {
            "/plain": new(h),
            "/own": h.api.jwt_required(scopes="own")(new(h)),
            "/maybe": h.api.jwt_required(optional=True)(new(h)),
            "/reset": h.api.jwt_required(type="reset")(new(h)),
            "/public": h.api.public(new(h)),
        }.items():
            desk.add_url_rule(path, path.strip("/"), view)
        for blueprint, said in ((shop, outer), (desk, inner)):
            if said == "public":
                h.api.public(blueprint)
            elif said is not None:
                h.api.protect(blueprint, **said)
        if before is not None:
            desk.before_request(h.api.jwt_required(**before)(h.colour(nothing)))
        shop.register_blueprint(desk)
        h.app.register_blueprint(shop)

    async def outcomes(self, token):
        paths = ("plain", "own", "maybe", "public")
        return [await outcome(self.h, token, f"/shop/desk/{path}") for path in paths]

    def route(self, path):
        return audit(self.h)[f"/shop/desk/{path}", "GET"]


@however_it_runs
async def test_blueprints_add_to_their_views_and_to_nested_ones(harness):
    shop = Shop(harness, outer={"scopes": "shop"}, inner={"roles": "clerk"})
    mint = shop.h.mint
    assert await shop.outcomes(None) == ["401 authorization_required"] * 3 + [200]
    assert await shop.outcomes(await mint()) == [NO_SCOPE] * 3 + [200]
    assert await shop.outcomes(await mint(scopes="shop")) == [DENIED, NO_SCOPE, DENIED, 200]
    assert await shop.outcomes(await mint(roles="clerk")) == [NO_SCOPE] * 3 + [200]
    assert await shop.outcomes(await mint(scopes="shop", roles="clerk")) == [200, NO_SCOPE, 200, 200]
    both = await mint(scopes=["shop", "own"], roles="clerk")
    assert await shop.outcomes(both) == [200] * 4
    answer = await shop.h.call("/shop/desk/own", token=await mint())
    assert answer.headers["WWW-Authenticate"].endswith('scope="own shop"')
    async with shop.h.context():
        reset = await shop.h.jwt.create_token("alice", type="reset")
        better = await shop.h.jwt.create_token("alice", type="reset", scopes="shop", roles="clerk")
    assert await outcome(shop.h, reset, "/shop/desk/reset") == NO_SCOPE
    assert await outcome(shop.h, better, "/shop/desk/reset") == 200
    assert await outcome(shop.h, both, "/shop/desk/reset") == "401 token_type_wrong"
    for path, state, scopes in (
        ("plain", "protected", (("shop",),)),
        ("own", "protected", (("own",), ("shop",))),
        ("maybe", "protected", (("shop",),)),
    ):
        route = shop.route(path)
        assert (route.state, route.policies[0].scopes, route.policies[0].roles) == (
            state,
            scopes,
            (("clerk",),),
        )
    assert shop.route("public").state == "public"


@on_both_kinds
async def test_a_public_blueprint_ends_what_those_around_it_demand(harness):
    shop = Shop(harness, outer={"scopes": "shop"}, inner="public")
    assert await shop.outcomes(None) == [200, "401 authorization_required", 200, 200]
    assert await shop.outcomes(await shop.h.mint(scopes="own")) == [200] * 4
    assert [shop.route(path).state for path in ("plain", "maybe")] == ["public", "optional"]
    shop = Shop(harness, outer="public", inner={"scopes": "desk"})
    assert await shop.outcomes(await shop.h.mint(scopes="own")) == [NO_SCOPE] * 3 + [200]


@on_both_kinds
async def test_a_blueprint_without_demands_leaves_the_token_to_the_view(harness):
    shop = Shop(harness, outer={}, inner={})
    assert await shop.outcomes(None) == ["401 authorization_required"] * 2 + [200] * 2
    shop = Shop(harness, inner={"scopes": "desk"}, deny=True)
    assert await shop.outcomes(await shop.h.mint(scopes=["desk", "own"])) == [200] * 4
    assert (await shop.h.call("/open")).status == 401


@on_both_kinds
async def test_protecting_twice_adds_up(harness):
    h = harness()
    blueprint = h.framework.Blueprint("shop", "shop", url_prefix="/shop")
    blueprint.add_url_rule("/", "view", new(h))
    for demands in ({"scopes": "a"}, {}, {"scopes": "b"}):
        h.api.protect(blueprint, **demands)
    h.app.register_blueprint(blueprint)
    assert await outcome(h, await h.mint(scopes=["a", "b"]), "/shop/") == 200
    assert await outcome(h, await h.mint(scopes="a"), "/shop/") == NO_SCOPE
    with pytest.raises(ConfigurationError, match="before it is registered"):
        h.api.protect(blueprint, scopes="c")
    assert h.api.protect(blueprint) is blueprint


@on_both_kinds
@pytest.mark.parametrize(
    ("before", "tokens"),
    [
        ({}, {"": NO_SCOPE, "desk": 200}),
        ({"scopes": "desk"}, {"": NO_SCOPE, "desk": 200}),
        ({"scopes": "other"}, {"desk": NO_SCOPE, "other": NO_SCOPE, "desk other": 200}),
        ({"optional": True}, {"": NO_SCOPE, "desk": 200}),
        ({"verify_type": False}, {"": NO_SCOPE, "desk": 200}),
    ],
)
async def test_a_check_before_the_request_must_cover_the_blueprint(harness, before, tokens):
    shop = Shop(harness, inner={"scopes": "desk"}, before=before)
    for scopes, status in tokens.items():
        token = await shop.h.mint(scopes=scopes.split())
        assert await outcome(shop.h, token, "/shop/desk/plain") == status
    if before.get("verify_type") is False:  # it decides on the type
        refresh = await shop.h.mint_refresh(scopes="desk")
        assert await outcome(shop.h, refresh, "/shop/desk/plain") == 200
    assert await outcome(shop.h, None, "/shop/desk/plain") == "401 authorization_required"
    route = shop.route("plain")
    assert route.state == "protected"
    assert any(("desk",) in policy.scopes for policy in route.policies)


async def test_which_policies_cover_which():
    from async_jwt.adapters.flask import any_of

    def rule(found):
        return True

    for wide, narrow in (
        ({}, {"scopes": "a"}),
        ({"scopes": any_of("a", "b")}, {"scopes": "a"}),
        ({"scopes": any_of("a", "b", "c")}, {"scopes": any_of("a", "b")}),
        ({"roles": "a"}, {"roles": ["a", "b"]}),
        ({"claims": {"a": 1}}, {"claims": {"a": 1, "b": 2}}),
        ({"allow": rule}, {"allow": rule, "roles": "a"}),
    ):
        assert Policy.of(**narrow).covers(Policy.of(**wide))
        assert not Policy.of(**wide).covers(Policy.of(**narrow))
    assert not Policy.of(claims={"a": 1}).covers(Policy.of(claims={"a": True}))


@however_it_runs
async def test_a_cache_above_the_decorator_opens_nothing(harness, caplog):
    """Not even if a check before the request passed, which demanded less."""
    h = harness()
    inner = h.api.jwt_required(scopes="wanted")(new(h))
    above = lost(lambda: {"cached": True})
    above.__dict__.update(inner.__dict__)
    h.view("/cached", h.colour(above))
    h.app.before_request(h.api.jwt_required(optional=False)(h.colour(nothing)))
    assert (await h.call("/cached", token=await h.mint())).status == 500
    assert "its jwt_required never ran" in caplog.text


def cached(h, guarded):
    """A cache that knows what it wraps."""
    above = lost(lambda *args, **kwargs: {"cached": True})
    above.__dict__.update(guarded.__dict__)
    return h.colour(above)


@however_it_runs
async def test_a_cache_between_the_decorators_of_a_class_and_of_a_method_opens_nothing(harness, caplog):
    h = harness()
    required = h.api.jwt_required
    guarded = required(scopes="wanted")(h.colour(lambda self: {"ran": True}))
    h.view("/item", method_view(h, decorators=[required()], get=cached(h, guarded)))
    h.view("/stack", required()(cached(h, required(allow=lambda found: False)(new(h)))))
    route = audit(h)["/item", "GET"]
    assert [policy.scopes for policy in route.policies] == [(), (("wanted",),)]
    for path in ("/item", "/stack"):
        assert (await h.call(path, token=await h.mint())).status == 500
    assert caplog.text.count("its jwt_required never ran") == 2


@on_both_kinds
async def test_a_cache_above_a_token_that_is_used_once_uses_it_up_nowhere(harness):
    h = harness()
    shop = h.framework.Blueprint("shop", "shop", url_prefix="/shop")
    once = h.api.jwt_required(type="pay", once=True)(new(h))
    shop.add_url_rule("/pay", "pay", cached(h, once), methods=["POST"])
    h.app.register_blueprint(h.api.protect(shop, scopes="x"))
    async with h.context():
        token = await h.jwt.create_token("alice", type="pay", scopes="x")
    assert (await h.call("/shop/pay", method="POST", token=token)).status == 500


@however_it_runs
async def test_two_tokens_of_one_request_have_demands_of_their_own(harness):
    """The decorator of one demands nothing of the other's."""
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "query_string"]})
    outer = h.api.jwt_required(locations="headers", scopes="a")
    inner = h.api.jwt_required(type="pay", locations="query_string", scopes="b")
    h.view("/pay", outer(inner(new(h))))
    async with h.context():
        access, pay = await h.mint(scopes="a"), await h.jwt.create_token("alice", type="pay", scopes="b")
    assert (await h.call(f"/pay?jwt={pay}", token=access)).status == 200
    assert await outcome(h, await h.mint(), f"/pay?jwt={pay}") == NO_SCOPE


@on_both_kinds
async def test_each_allow_is_asked_once_whoever_demands_it(harness):
    h, asked = harness(), []
    rules = {
        word: (lambda found, word=word: asked.append(word) or True) for word in ("shop", "outer", "inner")
    }
    shop = h.framework.Blueprint("shop", "shop", url_prefix="/shop")
    stacked = h.api.jwt_required(allow=rules["outer"])(h.api.jwt_required(allow=rules["inner"])(new(h)))
    shop.add_url_rule("/", "view", stacked)
    h.app.register_blueprint(h.api.protect(shop, allow=rules["shop"], scopes="x"))
    assert await outcome(h, await h.mint(scopes="x"), "/shop/") == 200
    assert asked == [*WHO]


@on_both_kinds
async def test_functions_of_any_kind_allow(harness):
    @dataclasses.dataclass
    class Rule:
        answer: bool

        def __call__(self, found):
            return self.answer

    for answer, status in ((True, 200), (False, DENIED)):
        rule = Rule(answer)
        shop = Shop(harness, inner={"allow": rule}, before={"allow": rule})
        assert await outcome(shop.h, await shop.h.mint(), "/shop/desk/plain") == status


@on_both_kinds
async def test_nothing_is_asked_where_nothing_is_demanded(harness, tmp_path):
    """Of a tenant, for example: a loader that fails breaks no page that is public."""
    h = harness({"JWT_DEFAULT_DENY": True})

    @h.jwt.cookie_scope_loader
    def tenant(request):
        raise RuntimeError("no such tenant")

    h.view("/health", h.api.public(new(h)))
    h.view("/guarded", new(h))
    assert (await h.call("/health")).status == 200
    assert (await h.call("/nowhere")).status == 404
    assert (await h.call("/guarded")).status == 500


@on_both_kinds
async def test_a_page_load_of_a_user_who_may_not_is_403(harness):
    """Neither a login page nor an anonymous visit: the user is known."""
    for more in ({}, {"JWT_LOGIN_VIEW": "/login"}):
        h = harness({"JWT_TOKEN_LOCATION": "cookies", "JWT_COOKIE_SECURE": False, **more})

        async def login(h=h):
            response = h.app.response_class("in")
            h.api.set_token_cookies(response, await h.api.create_token_pair("alice", roles="clerk"))
            return response

        h.view("/in", login)
        h.view("/login", h.api.public(new(h)))
        h.view("/admin", h.api.jwt_required(roles="admin", refresh_cookie=True)(new(h)))
        h.view("/maybe", h.api.jwt_required(roles="admin", refresh_cookie=True, optional=True)(new(h)))
        answer = await h.call("/in")
        held = answer.cookies["refresh_token_cookie"].partition("=")[2].partition(";")[0]
        page = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        for path, site in itertools.product(("/admin", "/maybe"), ("same-origin", "cross-site")):
            sent = {**page, "Sec-Fetch-Site": site}
            answer = await h.call(path, headers=sent, cookies={"refresh_token_cookie": held})
            assert (answer.status, answer.code) == (403, "permission_denied")
            assert "access_token_cookie" in answer.cookies
            if site == "same-origin":
                held = answer.cookies["refresh_token_cookie"].partition("=")[2].partition(";")[0]


@on_both_kinds
async def test_what_an_application_raises_itself_breaks_no_header(harness):
    h = harness()

    @h.api.jwt_required()
    async def view():
        raise InsufficientScopeError("no", scopes=("good", 'bad"', "two words", "x\r\ny"))

    h.view("/raises", view)
    answer = await h.call("/raises", token=await h.mint())
    assert answer.headers["WWW-Authenticate"].endswith('scope="good"')


@NEEDS_QUART
async def test_websockets_demand_them_too():
    from quart import Blueprint, websocket

    from tests.adapters.test_websockets import Sockets, api

    h = Sockets()

    def echo():
        async def view():
            await websocket.send_json(await websocket.receive())

        return view

    async def later():
        await websocket.accept()
        await api.verify_jwt_in_request(roles="admin")

    desk = Blueprint("desk", "desk", url_prefix="/desk")
    desk.add_websocket("/plain", "plain", echo())
    desk.add_websocket("/own", "own", api.jwt_required(roles="clerk")(echo()))
    h.app.register_blueprint(api.protect(desk, scopes="desk"))
    h.app.add_websocket("/ws/guarded", "guarded", api.jwt_required(scopes="wanted")(echo()))
    h.app.add_websocket("/ws/later", "later", later)

    async def sent(**options):
        return {"Authorization": f"Bearer {await h.mint(**options)}"}

    for path, good, bad in (
        ("/ws/guarded", {"scopes": "wanted"}, {"scopes": "want"}),
        ("/desk/plain", {"scopes": "desk"}, {}),
        ("/desk/own", {"scopes": "desk", "roles": "clerk"}, {"roles": "clerk"}),
        ("/desk/own", {"scopes": "desk", "roles": "clerk"}, {"scopes": "desk"}),
    ):
        refused = await h.refused(path, headers=await sent(**bad))
        assert refused.status == 403
        async with h.connect(path, headers=await sent(**good)) as socket:
            assert await socket.ask("hi") == "hi"
    async with h.connect("/ws/later", headers=await sent()) as socket:
        await socket.over()
    assert (socket.closed["code"], socket.closed["reason"]) == (1008, "permission_denied")


# -- tokens carry them, and a refresh adds none --------------------------------------------


async def grants(h, token):
    async with h.context():
        claims = await h.jwt.decode_token(token)
    return claims.get("scope"), claims.get("roles")


@however_it_runs
async def test_tokens_carry_them_as_claims(harness):
    h = harness()
    assert await grants(h, await h.mint(scopes=["a", "b", "a"], roles=["x"])) == ("a b", ["x"])
    assert await grants(h, await h.mint(scopes="a", roles="x")) == ("a", ["x"])
    assert await grants(h, await h.mint_refresh(scopes=[], roles=[])) == ("", [])
    assert await grants(h, await h.mint()) == (None, None)

    @h.jwt.additional_claims_loader
    async def load(identity):
        return {"scope": "loaded", "roles": ["loaded"]}

    assert await grants(h, await h.mint()) == ("loaded", ["loaded"])
    assert await grants(h, await h.mint(scopes=[], roles="x")) == ("", ["x"])


class Refreshing:
    """A session that is refreshed, with what the claims loader says at that moment."""

    def __init__(self, make_app):
        h = self.h = make_app()
        self.says, self.options = {}, {}

        @h.jwt.additional_claims_loader
        async def load(identity):
            return self.says

        @h.api.jwt_required(refresh=True)
        async def refresh():
            pair = await h.api.rotate_refresh_token(**self.options)
            return {"tokens": [pair.access_token, pair.refresh_token]}

        @h.api.jwt_required(refresh=True)
        async def joined():
            return {"tokens": [await h.api.create_access_token("alice", **self.options), ""]}

        h.view("/refresh-it", refresh)
        h.view("/joined", joined)

    async def login(self, **options):
        async with self.h.context():
            self.token = (await self.h.jwt.create_token_pair("alice", **options)).refresh_token

    async def step(self, says=None, path="/refresh-it", **options):
        self.says, self.options = says or {}, options
        answer = await self.h.call(path, token=self.token)
        if answer.status != 200:
            return answer.status
        access, refresh = answer.json["tokens"]
        self.token = refresh or self.token
        found = await grants(self.h, access)
        assert not refresh or await grants(self.h, refresh) == found
        return found


@however_it_runs
async def test_a_refresh_never_adds_a_scope(make_app):
    r = Refreshing(make_app)
    await r.login(scopes=["a", "b", "c"], roles=["x", "y"])
    assert await r.step() == ("a b c", ["x", "y"])
    assert await r.step({"scope": "c d a", "roles": ["y", "z"]}) == ("a c", ["y"])
    assert await r.step({"scope": ["a", "b", "c"]}) == ("a c", ["y"])
    assert await r.step({"scope": "a", "roles": []}) == ("a", [])
    assert await r.step() == ("a", [])
    assert await r.step(additional_claims={"scope": "a b", "roles": ["x"]}) == ("a", [])
    assert await r.step({"scope": 7}) == ("", [])


@on_both_kinds
async def test_an_application_keeps_fewer(make_app):
    r = Refreshing(make_app)
    await r.login(scopes=["a", "b", "c"], roles=["x", "y"])
    assert await r.step(scopes=["b", "a"], roles="y") == ("a b", ["y"])
    before = r.token
    for more, status in (({"scopes": "c"}, 400), ({"scopes": 'a"'}, 400), ({"roles": ["x", "y"]}, 500)):
        assert await r.step(**more) == status  # nothing is used up
    assert r.token == before
    assert await r.step() == ("a b", ["y"])
    assert await r.step({"scope": "b"}, scopes=["a", "b"]) == ("b", ["y"])
    assert await r.step(scopes=[]) == ("", ["y"])


@on_both_kinds
async def test_what_only_the_loader_grants_follows_the_loader(make_app):
    r = Refreshing(make_app)
    await r.login()
    assert await r.step({"scope": "a"}) == ("a", None)
    assert await r.step({"scope": "a b"}) == ("a b", None)
    assert await r.step({"scope": "a b"}, scopes="c") == 400
    assert await r.step({"scope": "a b"}, scopes="b") == ("b", None)
    assert await r.step({"scope": "a b"}) == ("b", None)
    assert await r.step(roles="x") == 500  # the session has none


@on_both_kinds
async def test_the_form_of_other_claims_stays(make_app):
    r = Refreshing(make_app)
    odd = {"org-1": ["admin"], "org-2": ["clerk"]}
    await r.login(additional_claims={"roles": odd, "scope": ["a", 7, "b"]})
    assert await r.step() == (["a", 7, "b"], odd)
    assert await r.step({"scope": "b", "roles": ["org-1"]}) == ([7, "b"], {"org-1": ["admin"]})
    await r.login(additional_claims={"roles": "admin"})
    assert await r.step() == (None, "admin")
    assert await r.step({"roles": "other"}) == (None, [])


@on_both_kinds
async def test_an_access_token_beside_a_refresh_token_has_no_more(make_app):
    r = Refreshing(make_app)
    await r.login(scopes=["a", "b"], roles=["x"])
    assert await r.step(path="/joined") == ("a b", ["x"])
    assert await r.step(path="/joined", scopes=["b", "c"]) == ("b", ["x"])
    assert await r.step({"scope": "a z"}, path="/joined") == ("a", ["x"])


@on_both_kinds
async def test_a_refresh_token_that_was_made_alone_knows_what_it_was_given(make_app):
    """It begins a session at its first rotation, and at a page load stays one without."""
    r = Refreshing(make_app)
    for given, says, found in (
        ({"scopes": ["a"], "roles": ["x"]}, {}, ("a", ["x"])),
        ({"scopes": ["a"], "roles": ["x"]}, {"scope": "a b c", "roles": ["x", "y"]}, ("a", ["x"])),
        ({"additional_claims": {"scope": "a b"}}, {"scope": "b c"}, ("b", None)),
        ({}, {"scope": "a"}, ("a", None)),
    ):
        for path in ("/refresh-it", "/joined"):
            r.says = {}
            async with r.h.context():
                r.token = await r.h.jwt.create_refresh_token("alice", **given)
            assert await r.step(says, path=path) == found
            if path == "/refresh-it" and given:  # the session knows it from now on
                assert (await r.step({"scope": "a b c"}))[0] == found[0]


@on_both_kinds
async def test_no_other_way_leads_to_more(make_app):
    h = make_app()
    says = {}
    h.jwt.additional_claims_loader(lambda identity: says)

    @h.api.jwt_required(refresh=True)
    async def after():
        await h.api.rotate_refresh_token(scopes=["a"])
        return {"tokens": [await h.api.create_access_token("alice", scopes=["b"])]}

    @h.api.jwt_required(refresh=True)
    async def another():
        made = await h.api.create_refresh_token("alice"), await h.api.create_access_token("bob")
        return {"tokens": made}

    @h.api.jwt_required()
    async def again():
        same = await h.api.create_access_token("alice")
        return {"tokens": [same, await h.api.create_access_token("alice", scopes="c")]}

    for path, view in (("/after", after), ("/another", another), ("/again", again)):
        h.view(path, view)
    async with h.context():
        pair = await h.jwt.create_token_pair("alice", scopes=["a", "b"])
    says.update(scope="a b c")
    other, bob = (await h.call("/another", token=pair.refresh_token)).json["tokens"]
    assert (await grants(h, other), await grants(h, bob)) == (("a b", None), ("a b c", None))
    same, stepped_up = (await h.call("/again", token=pair.access_token)).json["tokens"]
    assert await grants(h, same) == ("a b", None)
    assert await grants(h, stepped_up) == ("c", None)  # the application's word, as after a password
    (cut,) = (await h.call("/after", token=pair.refresh_token)).json["tokens"]
    assert await grants(h, cut) == ("", None)


@on_both_kinds
async def test_a_rotation_gives_no_session_what_it_never_had(make_app):
    r = Refreshing(make_app)
    await r.login()
    assert await r.step({"scope": "a"}, additional_claims={"scope": "a b"}) == ("a", None)
    assert await r.step({"scope": "a b"}) == ("a", None)
    await r.login()
    assert await r.step(additional_claims={"roles": ["admin"]}) == (None, [])


@on_both_kinds
async def test_a_repeat_within_the_grace_leaves_the_successor_as_it_is(make_app):
    r = Refreshing(make_app)
    await r.login(scopes=["a", "b"])
    first = r.token
    assert await r.step() == ("a b", None)
    r.token, r.options, r.says = first, {"scopes": ["a", "z"]}, {}
    access, refresh = (await r.h.call("/refresh-it", token=first)).json["tokens"]
    assert (await grants(r.h, access))[0] == "a"
    assert (await grants(r.h, refresh))[0] == "a b"


@on_both_kinds
async def test_the_claim_that_says_what_was_given_is_ours(make_app):
    r = Refreshing(make_app)
    forged = {"async_jwt_given": ["scope"]}
    await r.login(additional_claims=forged)
    assert await r.step({"scope": "a", **forged}) == ("a", None)
    assert await r.step({"scope": "a b", **forged}) == ("a b", None)


@on_both_kinds
async def test_pages_and_expiring_cookies_lose_them_too(harness):
    """Every way to new tokens goes through the loader."""
    h = harness({"JWT_TOKEN_LOCATION": "cookies", "JWT_COOKIE_SECURE": False})
    says = {}
    h.jwt.additional_claims_loader(lambda identity: says)

    async def login():
        response = h.app.response_class("in")
        h.api.set_token_cookies(response, await h.api.create_token_pair("alice", scopes=["a", "b"]))
        return response

    async def page():
        return {"scope": h.api.get_jwt()["scope"]}

    h.view("/login", login)
    h.view("/page", h.api.jwt_required(refresh_cookie=True)(page))
    answer = await h.call("/login")
    held = {name: line.partition("=")[2].partition(";")[0] for name, line in answer.cookies.items()}
    del held["access_token_cookie"]
    headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for site in ("same-origin", "cross-site"):
        says.update(scope="a" if site == "same-origin" else "b")
        answer = await h.call("/page", headers={**headers, "Sec-Fetch-Site": site}, cookies=held)
        assert answer.json == {"scope": "a" if site == "same-origin" else ""}
        for name, line in answer.cookies.items():
            held[name] = line.partition("=")[2].partition(";")[0]
        del held["access_token_cookie"]


@on_both_kinds
async def test_tokens_that_came_elsewhere(harness):
    h = harness()
    async with h.context():
        token = await h.mint(scopes="a", roles="x", additional_claims={"ok": True})
        good = {"scopes": "a", "roles": "x", "claims": {"ok": True}, "allow": lambda found: True}
        assert (await h.jwt.authenticate_token(token, **good)).identity == "alice"
        for bad in ({"scopes": "b"}, {"roles": "y"}, {"claims": {"ok": 1}}, {"allow": lambda found: False}):
            with pytest.raises(PermissionDeniedError):
                await h.jwt.authenticate_token(token, **bad)


@on_both_kinds
async def test_drop_in_applications_know_them_too(harness):
    """Flask-JWT-Extended has none of these: 403, with its form of a body, and no challenge."""
    h = harness({"JWT_COMPAT": "flask-jwt-extended"})
    guarded(h, scopes="wanted")

    @h.api.jwt_required(refresh=True)
    async def joined():
        return {"token": await h.api.create_access_token("alice")}

    h.view("/joined", joined)
    answer = await h.call("/guarded", token=await h.mint(additional_claims={"scope": "want"}))
    text = "The token lacks a scope that this resource requires"
    assert (answer.status, answer.json) == (403, {"msg": text})
    assert "WWW-Authenticate" not in answer.headers
    refresh = await h.mint_refresh(additional_claims={"scope": "a"})
    answer = await h.call("/joined", token=refresh)
    assert await grants(h, answer.json["token"]) == (None, None)


async def test_the_log_names_no_value_of_a_token(harness, caplog):
    h = harness({"JWT_SECRET_KEY": SECRET})
    guarded(h, claims={"plan": "pro"})
    caplog.set_level("INFO")
    token = await h.mint(additional_claims={"plan": "secret-plan"})
    assert await outcome(h, token) == DENIED
    assert "permission_denied" in caplog.text
    assert "secret-plan" not in caplog.text
