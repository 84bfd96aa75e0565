"""Where webhooks may be: nowhere in the server's own network, however an address is written."""

import pytest

from stigmer_server.webhook_requests import WebhookRefused, WebhookRules

NONE = WebhookRules(frozenset())
SOME = WebhookRules(frozenset({"127.0.0.1", "hooks.internal", "::1"}))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/x",
        "https://example.com:8443/",
        "https://93.184.215.14/",
        "https://[2606:4700::1]/",
    ],
)
def test_a_public_address_is_taken(url: str) -> None:
    NONE.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https:///x",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com/#x",
        "https://example.com:99999/",
        "https://exämple.com/",
        "https://example.com/a b",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://0/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b::7f00:1]/",
        "",
        "https://[::1",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        NONE.check_url(url)


@pytest.mark.parametrize(
    ("addresses", "is_taken"),
    [
        (["93.184.215.14"], True),
        (["93.184.215.14", "127.0.0.1"], False),
        (["127.0.0.1"], False),
        (["::ffff:10.0.0.1"], False),
        (["fe80::1"], False),
    ],
)
def test_what_a_name_means_is_looked_at_when_it_is_connected_to(addresses: list[str], is_taken: bool) -> None:
    if is_taken:
        assert NONE.pick("example.com", addresses) == addresses[0]
    else:
        with pytest.raises(WebhookRefused, match="not public"):
            NONE.pick("example.com", addresses)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/x", "http://hooks.internal/", "http://[::1]:1/"])
def test_a_host_that_the_operator_allows_is_taken(url: str) -> None:
    SOME.check_url(url)
    with pytest.raises(ValueError, match="encrypted"):
        NONE.check_url(url)
    assert SOME.pick("hooks.internal", ["10.0.0.1"]) == "10.0.0.1"
