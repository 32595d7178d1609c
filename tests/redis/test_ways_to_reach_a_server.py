"""The ways to reach a server, what it lets us do, and what it says about itself."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
import uuid

import pytest
import trustme

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from async_jwt.testing import session_contract, store_contract
from tests.harness.applications import QuartHarness
from tests.harness.servers import RedisServer, free_port
from tests.harness.wire import Wire
from tests.integration.conftest import ROOT

pytestmark = pytest.mark.asyncio

# As docs/operations.md has them.
LEAST_RIGHTS = (
    "on >secret resetkeys ~shop:* resetchannels &shop:* -@all +mget +get +set +pttl +time +evalsha +eval "
    "+exists +unlink +type +zadd +zcard +zrange +zrandmember +zrem +zscore +persist +pexpire"
)
RIGHTS_TO_ASK = "+info +config|get"
RIGHTS_TO_TELL = "+xadd +publish"
RIGHTS_TO_MIRROR = "+xrange +subscribe +ping +scan"


async def works(store):
    for promise in store_contract[:6]:
        await promise(store)
    await store.close()


async def test_a_user_with_the_least_rights(redis_server):
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"ACL SETUSER shop {LEAST_RIGHTS}\n" in page
    assert f"`{RIGHTS_TO_ASK}`" in page
    redis_server.does("ACL", "SETUSER", "shop", *LEAST_RIGHTS.split())
    url = redis_server.url.replace("redis://", "redis://shop:secret@")
    redis_server.does("ACL", "LOG", "RESET")
    for promise in [*store_contract, *session_contract]:
        store = RedisStore(url, prefix=f"shop:{promise.__name__}:", deadline=5)
        await promise(store)
        await store.close()
    log = redis_server.does("ACL", "LOG", protocol=3)
    denied = {entry[b"object"].decode() for entry in log}
    # What it may ask and need not: who it is, and how the server fares.
    assert denied <= {"client|setinfo", "config|get", "info"}
    elsewhere = RedisStore(url, prefix="other:", deadline=5)
    with pytest.raises(StoreUnavailableError, match="NoPermission"):
        await elsewhere.stamp("alice")
    await elsewhere.close()


async def test_a_user_who_may_ask_is_warned(redis_server, caplog):
    redis_server.does("ACL", "SETUSER", "shop", *LEAST_RIGHTS.split(), *RIGHTS_TO_ASK.split())
    url = redis_server.url.replace("redis://", "redis://shop:secret@")
    store = RedisStore(url, prefix="shop:", deadline=5)
    await store.start()
    assert "nothing on disk" in caplog.text
    assert (store.status().persists, store.status().may_evict) == (False, False)
    await store.close()


async def test_rights_of_a_mirror_and_of_those_it_hears(redis_server):
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"`{RIGHTS_TO_TELL}`" in page
    assert f"`{RIGHTS_TO_MIRROR}`" in page
    rights = [*LEAST_RIGHTS.split(), *RIGHTS_TO_TELL.split()]
    redis_server.does("ACL", "SETUSER", "teller", *rights)
    redis_server.does("ACL", "SETUSER", "shop", *rights, *RIGHTS_TO_MIRROR.split())
    teller, mirror = (
        RedisStore(
            redis_server.url.replace("://", f"://{name}:secret@"), prefix="shop:", mirror=mirrors, deadline=5
        )
        for name, mirrors in (("teller", False), ("shop", True))
    )
    await mirror.start()
    while mirror.status().staleness is None:
        await asyncio.sleep(0.005)
    refs = [
        TokenRef("alice", f"jti {number}", None, await teller.stamp("alice"), 0.0, None)
        for number in range(3)
    ]
    redis_server.does("ACL", "LOG", "RESET")
    await teller.revoke_token(refs[0])
    await teller.revoke_session("some session", None)
    until = time.monotonic() + 5
    while await mirror.check(refs[0]):
        assert time.monotonic() < until
        await asyncio.sleep(0.005)
    assert await mirror.check(refs[1])
    await teller.revoke_user("alice")
    await asyncio.sleep(0.3)
    assert not await mirror.check(refs[1])
    assert redis_server.does("ACL", "LOG") == []
    for store in (teller, mirror):
        await store.close()


async def test_what_may_be_asked_in_part_is_known_in_part(redis_server):
    redis_server.does("ACL", "SETUSER", "default", "-config")
    store = RedisStore(redis_server.url, deadline=5)
    await store.start()
    assert (store.status().persists, store.status().may_evict) == (None, False)
    await store.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("options", "said", "status"),
    [
        (["--save", ""], "nothing on disk", {"persists": False}),
        (["--save", "60 1"], "", {"persists": True}),
        (["--appendonly", "yes", "--save", ""], "", {"persists": True, "may_evict": False}),
        (
            ["--save", "60 1", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            "drops keys",
            {"may_evict": True},
        ),
        (
            ["--save", "60 1", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"],
            "",
            {"may_evict": False},
        ),
    ],
)
async def test_what_a_server_says_at_the_start(make_server, caplog, options, said, status, protocol):
    store = RedisStore(f"{make_server(*options).url}?protocol={protocol}", deadline=5)
    assert store.status().persists is None
    await store.start()
    await store.start()
    assert len(caplog.records) == (1 if said else 0)
    assert said in caplog.text
    found = store.status()
    assert {name: getattr(found, name) for name in status} == status
    assert found.read_only is False
    await store.close()


async def test_a_replica_is_named_as_one(make_server, caplog):
    primary = make_server("--save", "60 1", "--repl-diskless-sync-delay", "0")
    replica = make_server("--save", "60 1")
    one = RedisStore(primary.url, deadline=5)
    ref = TokenRef("alice", "j", None, await one.stamp("alice"), 0.0, time.time() + 60)
    replica.does("REPLICAOF", "127.0.0.1", primary.port)
    for _ in range(500):
        if replica.does("INFO", "replication")["master_link_status"] == "up":
            break
        await asyncio.sleep(0.01)
    store = RedisStore(replica.url, deadline=5)
    await store.start()
    assert "read-only replica" in caplog.text
    assert store.status().read_only
    assert await store.check(ref)
    for call in (store.revoke_token(ref), store.revoke_user("alice"), store.revoke_everything()):
        with pytest.raises(StoreUnavailableError, match="ReadOnly"):
            await call
    assert store.status().problem is not None
    assert store.status().available
    await one.close()
    await store.close()


async def test_a_socket_in_the_file_system(tmp_path):
    path = tmp_path / "redis.sock"
    server = RedisServer(tmp_path, "--save", "", "--unixsocket", str(path))
    await works(RedisStore(f"unix://{path}?db=1", deadline=5))
    server.stop()


async def test_tls(redis_server, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    async with Wire(redis_server.port, ssl=context).open() as front:
        url = f"rediss://localhost:{front.port}"
        await works(RedisStore(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}", deadline=5))
        for wrong in (url, f"rediss://127.0.0.1:{front.port}?ssl_ca_certs={tmp_path / 'ca.pem'}"):
            stranger = RedisStore(wrong, deadline=5)
            with pytest.raises(StoreUnavailableError):
                await stranger.stamp("alice")
            await stranger.close()
        plain = RedisStore(front.url, deadline=0.5)
        with pytest.raises(StoreUnavailableError):
            await plain.stamp("alice")
        await plain.close()


def _speaks_tls(binary):
    if binary is None:
        return False
    # Without a port it ends at once, whatever it says.
    said = subprocess.run([binary, "--port", "0", "--tls-port", "0"], capture_output=True, check=False)
    return b"Bad directive" not in said.stderr + said.stdout


@pytest.mark.skipif(not _speaks_tls(shutil.which("redis-server")), reason="no redis-server with TLS on PATH")
async def test_tls_of_a_real_server_with_client_certificates(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("localhost", "client"):
        leaf = authority.issue_cert(name)
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    tls += [
        "--tls-cert-file",
        str(tmp_path / "localhost.pem"),
        "--tls-key-file",
        str(tmp_path / "localhost.key"),
    ]
    process = subprocess.Popen(  # noqa: ASYNC220  # it is awaited by nobody
        [shutil.which("redis-server"), "--port", "0", "--save", "", "--dir", str(tmp_path), *tls],
        stdout=subprocess.DEVNULL,
    )
    url = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    own = f"&ssl_certfile={tmp_path / 'client.pem'}&ssl_keyfile={tmp_path / 'client.key'}"
    store = RedisStore(url + own, deadline=5)
    for _ in range(200):
        try:
            await store.stamp("alice")
            break
        except StoreUnavailableError:
            await asyncio.sleep(0.02)
    await works(store)
    without = RedisStore(url, deadline=1)
    with pytest.raises(StoreUnavailableError):
        await without.stamp("alice")
    await without.close()
    process.terminate()
    process.wait()


async def test_processes_whose_clocks_differ_agree(redis_url):
    """Signing out everywhere and in at once, on machines two seconds apart."""
    prefix = uuid.uuid4().hex
    apps = [
        QuartHarness(
            store=RedisStore(redis_url, prefix=prefix, deadline=5),
            clock=lambda skew=skew: time.time() + skew,
        )
        for skew in (-1.0, 1.0)
    ]
    for out in apps:
        for into in apps:
            old = [await app.mint() for app in apps]
            await out.jwt.revoke_user("alice")
            pair = await into.jwt.create_token_pair("alice")
            for app in apps:
                assert [(await app.call(token=token)).status for token in old] == [401, 401]
                assert (await app.call(token=pair.access_token)).status == 200
                assert (await app.call("/refresh", token=pair.refresh_token)).status == 200
    for app in apps:
        await app.jwt.store.close()
