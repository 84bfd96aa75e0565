"""How a checked address is connected to, by tools that ask something there and with MCP servers at a URL."""

import httpx2


def at_address(address: str, request: httpx2.Request) -> httpx2.Request:
    """The request to an address. The name stays what TLS and the server are told."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
