"""Settings as an application meets them: early, late, changed, wrong."""

from __future__ import annotations

import datetime as dt
from typing import ClassVar

import pytest

from async_jwt.errors import ConfigurationError
from async_jwt.stores import MemoryStore

pytestmark = pytest.mark.asyncio


async def test_defaults_can_be_read_in_the_configuration(harness):
    config = harness().app.config
    assert config["JWT_IDENTITY_CLAIM"] == "sub"
    assert config["JWT_ACCESS_TOKEN_EXPIRES"] == dt.timedelta(minutes=15)
    assert config["JWT_COOKIE_SECURE"] is True


async def test_a_wrong_setting_is_refused_at_once_with_its_name(harness):
    with pytest.raises(ConfigurationError, match="JWT_TOKEN_LOCATION"):
        harness({"JWT_TOKEN_LOCATION": ["attic"]})


async def test_changes_are_honoured_even_inside_a_list(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["headers"]})
    token = await h.mint()
    cookie = {"access_token_cookie": token}
    assert (await h.call(cookies=cookie)).status == 401
    h.app.config["JWT_TOKEN_LOCATION"].append("cookies")
    assert (await h.call(cookies=cookie)).status == 200
    h.app.config["JWT_TOKEN_LOCATION"] = ["headers"]
    assert (await h.call(cookies=cookie)).status == 401
    del h.app.config["JWT_HEADER_TYPE"]
    assert (await h.call(token=token)).status == 200


async def test_a_configuration_in_the_place_of_another_counts(harness):
    """As extensions have it that load settings."""
    h = harness()
    h.view("/undecided", dict)
    token = await h.mint()
    before = h.app.config
    h.app.config = type(before)(before.root_path, {**before, "JWT_DEFAULT_DENY": True})
    assert (await h.call("/undecided")).status == 401
    assert (await h.call(token=token)).status == 200
    h.app.config["JWT_SECRET_KEY"] = "another secret, which nobody has signed with"
    assert (await h.call(token=token)).status == 401
    before["JWT_SECRET_KEY"] = "of no matter any more, but long enough for us"
    assert (await h.call(token=await h.mint())).status == 200


async def test_a_configuration_with_values_of_its_own_counts(harness):
    h = harness()

    class Layered(type(h.app.config)):
        def values(self):
            return list(super().values())

    h.view("/undecided", dict)
    h.app.config = Layered(h.app.config.root_path, dict(h.app.config))
    assert (await h.call("/undecided")).status == 200
    h.app.config["JWT_DEFAULT_DENY"] = True
    assert (await h.call("/undecided")).status == 401


async def test_other_values_that_cannot_be_compared_are_no_matter(harness):
    class Odd:
        __hash__ = None

        def __eq__(self, other):
            raise ValueError("which of them?")

    h = harness()
    token = await h.mint()
    for _ in range(2):
        h.app.config["SOMETHING_ELSE"] = Odd()
        assert (await h.call(token=token)).status == 200
    h.app.config["JWT_TOKEN_LOCATION"] = "cookies"
    assert (await h.call(token=token)).status == 401


async def test_compat_must_be_set_first(harness):
    h = harness({"JWT_COOKIE_SAMESITE": "Strict"})
    h.app.config["JWT_COMPAT"] = "flask-jwt-extended"
    with pytest.raises(ConfigurationError, match="JWT_COMPAT"):
        await h.mint()
    h = harness({"JWT_COOKIE_SAMESITE": "Strict", "JWT_COMPAT": "flask-jwt-extended"})
    assert h.app.config["JWT_COOKIE_SECURE"] is False
    assert h.app.config["JWT_COOKIE_SAMESITE"] == "Strict"


async def test_a_timeout_set_late_refuses_inline_hooks(harness):
    h = harness()
    h.jwt.user_lookup_loader(inline=True)(lambda header, claims: 1)
    h.app.config["JWT_HOOK_TIMEOUT"] = 1
    with pytest.raises(ConfigurationError, match="user_lookup_loader"):
        await h.mint()


async def test_setting_an_app_up_twice_keeps_its_store(harness):
    h = harness()
    token = await h.mint()
    await h.jwt.revoke_token(token)
    h.jwt.init_app(h.app)
    assert (await h.call(token=token)).code == "token_revoked"


async def test_a_server_starts_only_with_its_keys(harness):
    h = harness({"JWT_SECRET_KEY": None})
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        await h.jwt.start()
    h.jwt.decode_key_loader(lambda header, claims: "k" * 64)
    await h.jwt.start()
    await h.jwt.close()


async def test_a_server_starts_without_its_store_and_says_so(harness, caplog):
    h = harness({"JWT_STORE_URI": "redis://127.0.0.1:1?deadline=0.2"})
    await h.jwt.start()
    assert "Cannot reach the revocation store" in caplog.text
    assert "503" in caplog.text
    with pytest.raises(Exception, match="does not answer"):
        await h.mint()


async def test_start_and_close_with_the_server(harness):
    class Noting(MemoryStore):
        events: ClassVar[list] = []

        async def start(self):
            self.events.append("start")

        async def close(self):
            self.events.append("close")

    h = harness(store=Noting())
    async with h.serving():
        assert Noting.events == ["start"]
    assert Noting.events == ["start", "close"]


async def test_equal_values_of_another_type_are_a_change(harness):
    """False is never, and zero is refused."""
    h = harness({"JWT_ACCESS_TOKEN_EXPIRES": False, "JWT_REFRESH_GRACE": 0})
    assert "exp" not in await h.jwt.decode_token(await h.mint())
    h.app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 0
    with pytest.raises(ConfigurationError, match="must not be zero"):
        await h.mint()
    h.app.config["JWT_ACCESS_TOKEN_EXPIRES"] = False
    await h.mint()
    h.app.config["JWT_REFRESH_GRACE"] = False
    with pytest.raises(ConfigurationError, match="JWT_REFRESH_GRACE"):
        await h.mint()


async def test_a_change_that_fails_is_refused_until_it_is_mended(harness):
    """And the settings of before are not used meanwhile: a key may have been changed because it leaked."""
    h = harness({"JWT_STORE_URI": "memory://"})
    leaked = await h.mint()
    assert (await h.call(token=leaked)).status == 200
    h.app.config.update(
        JWT_SECRET_KEY="another secret, long enough for HMAC with SHA-256", JWT_STORE_URI="memory://x"
    )
    assert [(await h.call(token=leaked)).status for _ in range(3)] == [500] * 3
    h.app.config["JWT_STORE_URI"] = "memory://"
    assert (await h.call(token=leaked)).status == 401
    assert (await h.call(token=await h.mint())).status == 200


async def test_a_test_client_made_after_a_change_leaves_the_application_as_it_is(harness):
    h = harness()
    assert (await h.call(token=await h.mint())).status == 200
    h.app.config["JWT_SECRET_KEY"] = "another secret, long enough for HMAC with SHA-256"
    state = h.app.extensions["async_jwt"]
    assert state.with_own_store().engine().settings.secret_key == h.app.config["JWT_SECRET_KEY"]
    assert state.engine().settings.secret_key == h.app.config["JWT_SECRET_KEY"]
