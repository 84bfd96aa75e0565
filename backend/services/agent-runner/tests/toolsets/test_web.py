"""Pages of the web as tools give them, and the search: what is read, what is shown, what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from agent_runner.legs import ActivityAttempt
from agent_runner.toolsets.markdown_pages import MAX_PAGE_CHARACTERS, declared_charset, read_page
from leg_server import Server, leg_runner
from mcp_legs import calls, results
from recording_server import Given, RecordingServer
from stigmer_contract.conversation import ToolOutcome, ToolResult
from stigmer_contract.errors import ManifestError
from stigmer_contract.events import EVENT_ADAPTER, ToolStarted
from stigmer_contract.manifest_reader import read_manifests
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
CANARY = "Bearer a-canary-4712"
HTML = {"content-type": "text/html"}
LATIN = {"content-type": "text/html; charset=latin1"}
PAGE = """<!DOCTYPE html><html><head><title>A &amp; B</title><style>x{}</style>
<script>if (a<b) alert("</p>")</script><body><nav>skipped</nav><main><h1>Hi <b>there</b></h1>
<p>One <a href="/x?a=1">link</a> and <code>x()</code>.<p>Two
<ul><li>a<li>b <ul><li>c</ul></ul><ol><li><p>one</p></li><li>two</ol><pre><code>def f():
    return "`a`"

- x</code></pre><table><tr><th>A<th>B</tr><tr><td>1</td><td>2|3</td></tr></table>
<blockquote><p>q</p></blockquote><!-- <p>no</p> --><div hidden>no</div>
<p>5 < 6 &lt; 7<img src=x alt="a tree"><a href="javascript:x">js</a></main>"""
MARKDOWN = """# Hi **there**

One [link](https://a.example/x?a=1) and `x()`.

Two

- a
- b
  - c
1. one
2. two

```
def f():
    return "`a`"

- x
```

| A | B |
|---|---|
| 1 | 2\\|3 |

> q

5 < 6 < 7[image: a tree]js"""


async def run(
    launcher: CommandLauncher, root: Path, server: Server, *asked: tuple[str, dict[str, object]], allowed: str
) -> list[ToolResult]:
    environment = {"STIGMER_WEB_ALLOW_HOSTS": allowed}
    await leg_runner(server, calls(*asked), launcher, root, environment=environment).run("exe_1", TRY)
    return results(server)


def test_a_page_is_read_as_its_author_meant_it() -> None:
    page = read_page(PAGE, "https://a.example/b/")
    assert (page.title, page.markdown) == ("A & B", MARKDOWN)


async def test_pages_are_given_as_markdown_and_texts_as_they_are(
    launcher: CommandLauncher, tmp_path: Path, web: RecordingServer
) -> None:
    web.answers |= {
        "/page": Given("<title>Tür</title><p>Grüße".encode("latin-1"), headers=LATIN),
        "/meta": Given(b'<meta charset="cp1251">' + "<p>Привет".encode("cp1251"), headers=HTML),
        "/json": Given(b'{"a": 1}', headers={"content-type": "application/problem+json"}),
        "/pdf": Given(b"%PDF", headers={"content-type": "application/pdf"}),
        "/long": Given(b"x" * 60_000, headers={"content-type": "text/plain"}),
        "/moved": Given(status=302, headers={"location": "/json"}),
        "/gone": Given(b"<p>It is gone.", 410, HTML),
    }  # fmt: skip
    server = Server(tools=["web"])
    paths = ["/page", "/meta", "/json", "/pdf", "/moved", "/gone", "/long"]
    asked: list[tuple[str, dict[str, object]]] = [
        ("fetch_page", {"url": f"{web.url}{each}"}) for each in paths
    ]
    asked.append(("fetch_page", {"url": f"{web.url}/long", "offset": 50_000}))

    found = await run(launcher, tmp_path, server, *asked, allowed="127.0.0.1")

    texts = [each.text.replace(web.url, "") for each in found]
    assert texts[0] == "[page /page, titled 'Tür']\nGrüße"
    assert texts[1] == "[page /meta]\nПривет"
    assert texts[2:5] == [
        '[text /json]\n{"a": 1}', "[/pdf]\n[a file of application/pdf, which is not shown]",
        '[text /json]\n{"a": 1}',
    ]  # fmt: skip
    assert (found[5].outcome, texts[5]) == (
        ToolOutcome.FAILED,
        "HTTP 410 of /gone\n[page /gone]\nIt is gone.",
    )
    assert "more characters; go on with offset=50000]" in texts[6]
    assert texts[7].strip("x") == ""
    assert not [each for each in server.events if isinstance(each, ToolStarted) and each.side_effects]


async def test_only_public_pages_of_the_manifest_s_hosts_are_read_by_https(
    launcher: CommandLauncher, tmp_path: Path, web: RecordingServer
) -> None:
    web.answers["/away"] = Given(status=302, headers={"location": "http://other.example/"})
    server = Server(tools=["web"], web={"hosts": ["127.0.0.1", "*.example.com", "localhost"]})
    urls = [
        "http://169.254.169.254/latest", "https://example.com/", f"{web.url}/away", "http://localhost/",
        "http://a.example.com:8080/", "file:///etc/passwd",
    ]  # fmt: skip
    asked: list[tuple[str, dict[str, object]]] = [("fetch_page", {"url": url}) for url in urls]

    found = await run(launcher, tmp_path, server, *asked, allowed=f"127.0.0.1:{web.port}")

    assert [each.outcome for each in found] == [ToolOutcome.FAILED] * len(urls)
    told = [each.text for each in found]
    assert "may not read pages of '169.254.169.254' (spec.web.hosts)" in told[0]
    assert "may not read pages of 'example.com'" in told[1]
    assert "may not read pages of 'other.example'" in told[2]
    assert "'localhost' is this machine itself" in told[3]
    assert "not at port 8080" in told[4]
    assert "is not an address" in told[5]
    assert [each.target for each in web.asked] == ["/away"]


async def test_a_search_is_asked_with_its_headers_and_gives_what_was_found(
    launcher: CommandLauncher, tmp_path: Path, web: RecordingServer
) -> None:
    web.answers["/search"] = Given(
        b'{"results": [{"title": "A\\nb", "url": "https://a.example", "content": "x"}, 5,'
        b' {"url": "https://b.example"}]}'
    )
    search = {"url": f"{web.url}/search", "headers": {"Authorization": {"secret": "KEY"}}}
    server = Server(tools=["web"], web={"hosts": ["a.example"], "search": search})
    server.secrets = {"KEY": SecretStr(CANARY)}

    async def look() -> str:
        server.log.clear()
        [found] = await run(
            launcher, tmp_path, server, ("search_web", {"query": "what & why"}), allowed="127.0.0.1"
        )
        return found.text

    assert await look() == "1. A b\n   https://a.example\n   x\n2. (no title)\n   https://b.example"
    assert web.asked[0].target == "/search?q=what%20%26%20why&format=json"
    assert web.asked[0].headers["authorization"] == CANARY
    assert not [event for event in server.events if CANARY.encode() in EVENT_ADAPTER.dump_json(event)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Given(b'{"results": []}'), "Nothing was found."),
        (Given(b"<html>"), "the search did not answer with results as JSON"),
        (Given(b"[" * 100_000), "the search did not answer with results as JSON"),
        (Given(b"", 403), "the search answered with HTTP 403"),
    ],
)
async def test_a_search_that_answers_oddly_fails_the_call(
    launcher: CommandLauncher, tmp_path: Path, web: RecordingServer, given: Given, told: str
) -> None:
    web.answers["/search"] = given
    server = Server(tools=["web"], web={"search": {"url": f"{web.url}/search"}})
    [found] = await run(launcher, tmp_path, server, ("search_web", {"query": "x"}), allowed="*")
    assert told in found.text


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", '<a b="', "<a '", "<!--", "<!", "</", "&", "&#", "<div>", "<b>x", "<a href=y>x",
     "<template>", "<table><tr><td>x", "<ul><li>x", "<blockquote>x", "<pre>x", "<script>", "<title></titl",
     "<main>x</main>", "<h1>x"],
)  # fmt: skip
def test_a_page_that_never_ends_what_it_begins_takes_no_more_than_its_length(piece: str) -> None:
    # What took the square of it would not come back within the test's own time.
    page = read_page(piece * (MAX_PAGE_CHARACTERS // len(piece)), "https://a.example")
    assert len(page.markdown) <= 40 * MAX_PAGE_CHARACTERS


_TAGS = ["a href='/x'", "a", "p", "ul", "ol", "li", "pre", "code", "b", "table", "tr", "td", "main", "head",
         "body", "div hidden", "blockquote", "h2", "script", "title", "br", "img alt=x", "textarea",
         "svg"]  # fmt: skip
_PIECES = st.sampled_from(
    [f"<{tag}>" for tag in _TAGS] + [f"</{tag.split()[0]}>" for tag in _TAGS]
) | st.text(max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=30))
def test_no_page_does_more_than_be_read(pieces: list[str]) -> None:
    read_page("".join(pieces), "https://a.example")


def test_an_encoding_that_a_page_names_is_found() -> None:
    assert declared_charset(b"<META http-equiv=x content='text/html; charset=ISO-8859-2'>") == "ISO-8859-2"
    assert declared_charset(b"<p>charset=utf-8") is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("tools: [files]\n  web: {}", "is for the toolset `web`; add web to spec.tools"),
        ("tools: [web]\n  web: {hosts: ['https://a.example']}", "'https://a.example' is not a host such as"),
        ("tools: [web]\n  web: {search: {url: searx.example}}", "'searx.example' is not an address such as"),
        (
            "tools: [web]\n  scripts: [{name: fetch_page, description: x, command: [x]}]",
            "is the name of a built-in",
        ),
    ],
)
def test_a_wrong_manifest_is_told_with_what_would_be_right(fields: str, told: str) -> None:
    head = "apiVersion: agentic.stigmer.ai/v1\nkind: Agent\nmetadata: {name: x}\nspec:\n"
    text = f"{head}  instructions: Work.\n  {fields}\n"
    with pytest.raises(ManifestError) as refused:
        read_manifests(text, "agent.yaml")
    assert told in refused.value.problems[0].message


def test_what_the_web_needs_is_the_agent_s() -> None:
    search: dict[str, Any] = {"url": "https://s.example", "headers": {"A": {"secret": "KEY"}}}
    spec = Server(tools=["web"], web={"search": search}).spec
    assert (spec.secret_names, spec.networks["spec.tools"]) == (["KEY"], "web")
