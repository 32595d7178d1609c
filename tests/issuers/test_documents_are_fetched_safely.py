"""The fetching of documents: TLS, addresses, sizes, and what the headers of a document say."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading

import pytest
import trustme

from async_jwt.issuers import FetchError, HttpFetch, IssuerIdentity
from async_jwt.issuers import fetching as module
from async_jwt.issuers.documents import freshness, jwks_uri_in, metadata_urls, published_keys, read_json
from async_jwt.issuers.fetching import is_public
from async_jwt.issuers.identity import own_name, stored_name
from tests.harness.providers import JWKS, Provider

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:0001::1",
    "2001:0:7f00:1::",
    "64:ff9b:1::1",
    "2002:808:808::1",
    "fec0::1",
    "::7f00:1",
    "::ffff:0:7f00:1",
    "168.63.129.16",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_no_stranger_may_name(address):
    assert not is_public(address)


def resolving(monkeypatch, *addresses):
    asked = []

    real = socket.getaddrinfo

    def found(host, port, *args, **kwargs):
        if not host.endswith(".example"):
            return real(host, port, *args, **kwargs)
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return asked


@pytest.mark.asyncio
async def test_each_address_of_a_host_must_be_public(monkeypatch):
    fetch = HttpFetch(public_only=True)
    for addresses in (["8.8.8.8", "10.0.0.1"], ["127.0.0.1"], []):
        resolving(monkeypatch, *addresses)
        with pytest.raises(FetchError, match="private address"):
            await fetch("https://tenant.example/keys")


@pytest.mark.asyncio
async def test_a_host_that_does_not_resolve(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchError, match="cannot be resolved"):
        await HttpFetch(public_only=True)("https://tenant.example/keys")


@pytest.fixture
def secured(provider: Provider, tmp_path):
    """The provider with TLS, under the name tenant.example."""
    authority = trustme.CA()
    certificate = authority.issue_cert("tenant.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    provider._server.socket = context.wrap_socket(provider._server.socket, server_side=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return provider, str(tmp_path / "ca.pem")


@pytest.mark.asyncio
async def test_what_was_checked_is_what_is_connected_to(secured, monkeypatch):
    """The name is resolved once; certificate and `Host` still go by it."""
    provider, authority = secured
    port = provider._server.server_port
    asked = resolving(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(module, "is_public", lambda address: True)
    fetch = HttpFetch(verify=authority, public_only=True)
    found = await fetch(f"https://tenant.example:{port}{JWKS}")
    assert json.loads(found.body) == provider.jwks()
    assert asked == [("tenant.example", port)]
    with pytest.raises(FetchError, match="ConnectError"):
        await fetch(f"https://other.example:{port}{JWKS}")
    with pytest.raises(FetchError, match="ConnectError"):
        await HttpFetch(public_only=True)(f"https://tenant.example:{port}{JWKS}")


@pytest.mark.asyncio
async def test_ipv6_addresses_and_default_ports(monkeypatch):
    resolving(monkeypatch, "2606:4700:4700::1111", "8.8.8.8")
    named = {"Host": "tenant.example"}, {"sni_hostname": "tenant.example"}
    assert await module._targets("https://tenant.example/k?x=1") == [
        ("https://[2606:4700:4700::1111]:443/k?x=1", *named),
        ("https://8.8.8.8:443/k?x=1", *named),
    ]
    assert (await module._targets("http://tenant.example/k"))[0][0] == "http://[2606:4700:4700::1111]:80/k"


@pytest.mark.asyncio
async def test_the_next_address_is_tried(secured, monkeypatch):
    provider, authority = secured
    port = provider._server.server_port
    resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(module, "is_public", lambda address: True)
    fetch = HttpFetch(verify=authority, public_only=True)
    assert (await fetch(f"https://tenant.example:{port}{JWKS}")).body
    monkeypatch.setattr(module, "_MOST_ADDRESSES", 0)
    with pytest.raises(FetchError, match="no address"):
        await fetch(f"https://tenant.example:{port}{JWKS}")


def test_two_that_fetch_alike_are_the_same():
    assert HttpFetch(headers={"a": "b"}) == HttpFetch(headers={"a": "b"})
    assert len({HttpFetch(), HttpFetch(public_only=False)}) == 1
    assert HttpFetch() != HttpFetch(public_only=True)
    assert HttpFetch() != "HttpFetch"


@pytest.mark.asyncio
async def test_a_private_authority_and_headers(secured):
    provider, authority = secured
    port = provider._server.server_port
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    found = await HttpFetch(verify=context, headers={"Authorization": "Bearer x"})(
        f"https://127.0.0.1:{port}{JWKS}"
    )
    assert json.loads(found.body) == provider.jwks()


@pytest.mark.asyncio
async def test_headers_of_a_document(provider):
    provider.headers = {"Cache-Control": "max-age=60", "Age": "12"}
    fetch = HttpFetch()
    found = await fetch(provider.url + JWKS)
    assert (found.cache_control, found.age) == ("max-age=60", 12.0)
    for age in ("-1", "x", "9" * 400, "²"):
        provider.headers["Age"] = age.encode().decode("latin-1")
        assert (await fetch(provider.url + JWKS)).age == 0.0
    provider.headers = {"Content-Encoding": "identity"}
    assert (await fetch(provider.url + JWKS)).cache_control == ""


@pytest.mark.asyncio
async def test_whatever_goes_wrong_is_told_in_short(provider):
    provider.stop()
    with pytest.raises(FetchError, match="ConnectError"):
        await HttpFetch()(provider.url)
    with pytest.raises(FetchError, match=r"InvalidURL|UnsupportedProtocol"):
        await HttpFetch()("x://a")
    proxy = HttpFetch(proxy=provider.url)
    with pytest.raises(FetchError, match="ConnectError"):
        await proxy("http://tenant.example/")


@pytest.mark.asyncio
async def test_a_server_that_sends_a_little_at_a_time_is_cancelled():
    """The limit is of the whole, not of each read."""
    import anyio

    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip():
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not stop.wait(0.02):
            try:
                connection.sendall(b" ")
            except OSError:
                break
        connection.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with anyio.move_on_after(0.3) as scope:
        await HttpFetch()(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert scope.cancelled_caught
    stop.set()
    await asyncio.to_thread(thread.join, 5)
    listener.close()


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("", 0, 600),
        ("public", 0, 600),
        ("max-age=3600", 0, 3600),
        ('public, Max-Age="3600"', 600, 3000),
        ("max-age=3600", 4000, 60),
        ("max-age=1", 0, 60),
        ("max-age=0", 0, 60),
        ("max-age=-1", 0, 600),
        ("max-age=x", 0, 600),
        ("max-age=99999999999999", 0, 600),
        ("max-age=999999999", 0, 86_400),
        ("no-cache, max-age=3600", 0, 60),
        ("NO-STORE", 0, 60),
    ],
)
def test_how_long_a_document_is_fresh(cache_control, age, seconds):
    assert freshness(cache_control, age) == seconds


def test_where_metadata_may_be():
    assert metadata_urls("https://x.example/") == (
        "https://x.example/.well-known/openid-configuration",
        "https://x.example/.well-known/oauth-authorization-server",
    )
    assert metadata_urls("https://x.example:8/realms/a") == (
        "https://x.example:8/realms/a/.well-known/openid-configuration",
        "https://x.example:8/.well-known/oauth-authorization-server/realms/a",
    )


def test_where_keys_may_be():
    def found(address, base="https://x.example"):
        return jwks_uri_in({"issuer": "https://x.example", "jwks_uri": address}, "https://x.example", base)

    assert found("https://keys.example/k") == "https://keys.example/k"
    assert found("https://x.example/k", "http://inside:8080") == "http://inside:8080/k"
    assert found("http://inside:8080/k", "http://inside:8080") == "http://inside:8080/k"
    for address in ("http://x.example/k", "ftp://x.example/k", "//x.example/k", "/k", ""):
        with pytest.raises(FetchError):
            found(address)
    with pytest.raises(FetchError):
        found("http://other:8080/k", "http://inside:8080")
    with pytest.raises(FetchError):
        found("http://inside:8081/k", "http://inside:8080")


TENANTS = "https://login.microsoftonline.com/{tenantid}/v2.0"


@pytest.mark.parametrize(
    ("issuer", "named", "is_its"),
    [
        (TENANTS.format(tenantid="1-2"), TENANTS, True),
        (TENANTS.format(tenantid="1-2"), TENANTS.format(tenantid="1-2"), True),
        (TENANTS.format(tenantid="1-2"), TENANTS.format(tenantid="1-3"), False),
        (TENANTS.format(tenantid="1/2"), TENANTS, False),
        ("https://login.microsoftonline.com/1-2/v2.0/x", TENANTS, False),
        ("https://x.example", None, True),
        ("https://x.example", ["https://x.example"], False),
    ],
)
def test_a_key_may_name_its_issuer(issuer, named, is_its):
    key = {"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "kid": "k"}
    if named is not None:
        key["issuer"] = named
    published, left_out = published_keys({"keys": [key]}, issuer, ["ES256"])
    assert (len(published), left_out) == ((1, 0) if is_its else (0, 1))


def test_json_that_is_none():
    for body in (b"", b"\xff", b"[1]", b"7", b"[" * 100_000, b"NaN"):
        with pytest.raises(FetchError):
            read_json(body)


def test_the_names_that_stores_know():
    one = IssuerIdentity("u", issuer="https://a.example")
    assert one != "u"
    assert str(one) == "u"
    assert f"{one}" == "u"
    assert one == IssuerIdentity("u", issuer="https://a.example")
    assert one != IssuerIdentity("u", issuer="https://b.example")
    assert {"u": "our user"}.get(one) is None
    assert len({one, "u", IssuerIdentity("u", issuer="https://a.example")}) == 2
    assert repr(one) == "IssuerIdentity('u', issuer='https://a.example')"
    import copy
    import pickle

    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (str(other), other.issuer) == ("u", "https://a.example")
    name = stored_name("https://a.example", "u")
    assert own_name(name) != name
    assert own_name("u") == "u"
    assert own_name("iss~") != "iss~"
    assert own_name(own_name("iss~x")) != own_name("iss~x")
    assert len(stored_name("x" * 5000, "u")) == len(name)
