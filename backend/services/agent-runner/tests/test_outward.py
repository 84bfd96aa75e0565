"""Requests that leave for an agent: which addresses they go to, and what of an answer is read."""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.outward import Answer, AnswerLost, NotSent, Redirects, send, why_not_public
from recording_server import Given, RecordingServer
from stigmer_contract.hosts import literal_address

PRIVATE = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
           "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "192.0.2.0/24", "198.18.0.0/15"]  # fmt: skip
PRIVATE_6 = ["::1/128", "::/128", "fc00::/7", "fe80::/10", "ff00::/8", "2001:db8::/32", "64:ff9b:1::/48",
             "100::/64", "fec0::/10", "::7f00:0/104"]  # fmt: skip


def within(network: str) -> st.SearchStrategy[Any]:
    parsed = ipaddress.ip_network(network)
    return st.integers(int(parsed[0]), int(parsed[-1])).map(type(parsed[0]))


private_4 = st.one_of([within(network) for network in PRIVATE])


@pytest.fixture
def web() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server


async def get(url: str, *, allowed: tuple[str, ...] = ("127.0.0.1",), **fields: Any) -> Answer:
    options: dict[str, Any] = {"max_bytes": 10_000, "seconds": 60.0, "redirects": Redirects.ANYWHERE}
    return await send(fields.pop("method", "GET"), url, {}, allowed=allowed, **(options | fields))


@given(private_4)
def test_no_private_address_is_public_in_any_form(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [
        address,
        ipaddress.IPv6Address(0xFFFF << 32 | number),  # mapped, RFC 4291
        ipaddress.IPv6Address((0x0064FF9B << 96) | number),  # NAT64, RFC 6052
        ipaddress.IPv6Address((0x2002 << 112) | number << 80),  # 6to4, RFC 3056
        ipaddress.IPv6Address((0x20010000 << 96) | number ^ 0xFFFFFFFF),  # Teredo, RFC 4380
        ipaddress.IPv6Address(number),  # IPv4-compatible, RFC 4291
    ]
    for form in forms:
        assert why_not_public(str(form)) is not None, form


@given(st.one_of([within(network) for network in PRIVATE_6]))
def test_no_private_address_of_ipv6_is_public(address: ipaddress.IPv6Address) -> None:
    assert why_not_public(str(address)) is not None
    assert why_not_public(f"{address}%eth0") is not None


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are(address: str) -> None:
    assert why_not_public(address) is None


@given(private_4, st.sampled_from(["{:d}", "0x{:x}", "0{:o}", "parts"]))
def test_every_way_to_write_an_address_is_seen_through(address: ipaddress.IPv4Address, form: str) -> None:
    number = int(address)
    if form == "parts":
        text = f"0x{number >> 24:x}.0{number >> 16 & 255:o}.{number & 65535}"
    else:
        text = form.format(number)
    assert literal_address(text) == str(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://localhost/",
        "http://[64:ff9b::7f00:1]/", "http://[fe80::1%25eth0]/", "http://0/", "http://169.254.169.254/latest/",
        "http://127。0。0。1/", "http://①②⑦.0.0.1/", "http://127.0.0.1./",
    ],
)  # fmt: skip
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
async def test_nothing_is_sent_to_this_machine_and_its_cloud(
    url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy is not None:
        monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(NotSent) as refused:
        await get(url, allowed=("shop.example",))
    assert "STIGMER_WEB_ALLOW_HOSTS" in str(refused.value) or "is not an address" in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a.example/", "gopher://a.example", "/x", "", "https://", "http://u:p@a.example/",
     "http://a.example:99999/", "http://a b/"],
)  # fmt: skip
async def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(NotSent):
        await get(url)


async def test_an_address_without_end_is_refused() -> None:
    with pytest.raises(NotSent, match="longer than 8000 characters"):
        await get("http://a.example/" + "x" * 9000)


async def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(
    web: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/"] = Given(b"here")
    asked = list[str]()

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        # Another address the next time: it would be connected to by whoever looked again.
        address = "127.0.0.1" if len(asked) == 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    answer = await get(f"http://shop.example:{web.port}/", allowed=("shop.example",))
    assert (answer.content, asked) == (b"here", ["shop.example"])
    assert web.asked[0].headers["host"] == f"shop.example:{web.port}"
    with pytest.raises(NotSent, match="a private or reserved address"):
        await get(f"http://shop.example:{web.port}/", allowed=())


async def test_each_redirection_is_checked_anew(web: RecordingServer) -> None:
    web.answers |= {
        "/a": Given(status=302, headers={"location": "http://169.254.169.254/latest/meta-data"}),
        "/b": Given(status=301, headers={"location": "c"}),
        "/c": Given(b"c"),
        "/d": Given(status=302, headers={"location": "file:///etc/passwd"}),
        "/e": Given(status=302, headers={"location": "/e"}),
    }
    with pytest.raises(AnswerLost, match="link-local or metadata"):
        await get(f"{web.url}/a")
    assert (await get(f"{web.url}/b")).url == f"{web.url}/c"
    assert (await get(f"{web.url}/d")).status == 302
    assert (await get(f"{web.url}/b", method="POST")).status == 301
    with pytest.raises(AnswerLost, match="more than 10 redirections"):
        await get(f"{web.url}/e")


async def test_an_answer_is_bounded_however_it_is_packed(web: RecordingServer) -> None:
    web.answers |= {
        "/long": Given(b"x" * 20_000),
        "/bomb": Given(gzip.compress(b"x" * 50_000_000), headers={"content-encoding": "gzip"}),
        "/packed": Given(gzip.compress(b"small"), headers={"content-encoding": "gzip"}),
        "/damaged": Given(b"not gzip", headers={"content-encoding": "gzip"}),
        "/unknown": Given(b"?", headers={"content-encoding": "br"}),
        "/cut": Given(b"x", promised=5),
    }
    for path in ("/long", "/bomb"):
        answer = await get(f"{web.url}{path}")
        assert (len(answer.content), answer.is_cut) == (10_000, True)
    assert (await get(f"{web.url}/packed")).content == b"small"
    for path in ("/damaged", "/unknown", "/cut"):
        with pytest.raises(AnswerLost):
            await get(f"{web.url}{path}")


async def test_who_does_not_answer_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(NotSent, match=r"did not answer within 0\.2s"):
            await get(url, seconds=0.2)
        with pytest.raises(AnswerLost, match=r"did not answer within 0\.2s"):
            await get(url, seconds=0.2, method="POST")
    with pytest.raises(NotSent, match="cannot be connected to"):
        await get(url, method="POST")
