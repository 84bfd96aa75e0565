"""Texts that make a page do what it should not, as agents, tools, files and manifests may carry them.

And what lets a server answer a page with nothing else.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

_SHORT: Final = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<form><button formaction=javascript:alert(1)>x</button></form>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=https://evil.example/>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='jav&#x09;ascript:alert(1)'>x</a>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "{@html '<img src=x onerror=alert(1)>'}",
    "{{constructor.constructor('alert(1)')()}}",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x]( javascript:alert(1))",
    "[x](//evil.example/x)",
    "[x](/v1/executions)",
    "[x](https://user@evil.example\\@127.0.0.1)",
    "![x](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    '![x](x" onerror="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    "<javascript:alert(1)>",
    '<https://evil.example/"onmouseover=alert(1)>',
    "`<img src=x onerror=alert(1)>`",
    "```html\n<img src=x onerror=alert(1)>\n```",
    '```"><img src=x onerror=alert(1)>\nx\n```',
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    "- [ ] <img src=x onerror=alert(1)>",
    "> <img src=x onerror=alert(1)>",
    "# <img src=x onerror=alert(1)>",
    "**<img src=x onerror=alert(1)>**",
    "\u202e<gpj.tpircs\u202c",
    "a\u200bb\u2066c\u2069\ufeff",
    "\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x00\x01\x7f",
    "</script><script>alert(1)</script>",
    "'-alert(1)-'",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "expression(alert(1));}*{width:100vw;background:url(//evil.example/x)}",
    "${alert(1)}",
    "<x-element onclick=alert(1)>x</x-element>",
    "<slot name=x></slot><template shadowrootmode=open><img src=x onerror=alert(1)></template>",
    "<a name=session>x</a><form id=session><input name=who></form>",
    "../../../etc/passwd%00<img src=x onerror=alert(1)>",
    "%3Cimg%20src=x%20onerror=alert(1)%3E",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\ud800<img src=x onerror=alert(1)>",
    "\u3164\u2800\U000e0041\U000e0042\U000e0100",
    "\u2028\u2029\x85\x0b",
    "a" + "\u0300" * 500,
    "\ufdfd" * 50,
    "\U0001f469\u200d\U0001f4bb",
    "مرحبا שלום",
    "\x9b31mred\x9b0m\x90q\x9c",
]
_LONG: Final = [
    ">" * 3000 + "x",
    "[" * 3000,
    "*" * 3000 + "a",
    "- " * 500 + "x",
    "<" * 3000,
    "x" * 30_000,
]
ATTACKS: Final = [each for each in _SHORT + _LONG if "\ud800" not in each]
"""Those that can be sent in UTF-8."""

_HIDDEN: Final = (
    r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff"
    r"\u{e0000}-\u{e0fff}]"
)
"""A pattern of JavaScript: what nobody sees, or what turns text around. No view shows it as it is."""
_IDS: Final = (
    r"^(?:[a-z]{2,6}_[0-9a-z]{20,}|[0-9a-f-]{32,64}|-?[0-9]+(\.[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}T.*)$"
)
"""Ids, digests, numbers and times, by which the page finds its way: the server makes them."""
_SERVERS_OWN: Final = ["next_cursor"]
_JSON_SCHEMA: Final = {
    "type": ["object", "array", "string", "boolean", "integer", "number", "null"],
    "properties": [],
    "required": [],
}
_SCRIPT: Final = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_INSPECT: Final = Path(__file__).with_name("inspect_page.js").read_text(encoding="utf-8")
_ELEMENTS: Final = """
    a article blockquote body br button circle code dd del details div dl dt em form g h1 h2 h3 h4 header hr
    img input kbd label legend li line main nav noscript ol option p path pre rect section select span strong
    summary svg table tbody td textarea th thead time title tr ul
"""
"""All that the page itself is made of."""


def hostile_fetch(description: dict[str, Any]) -> str:
    """A script that puts attacks into each text of each answer that a page gets.

    Args:
        description: the server's own, of its API: names of fields and values of closed sets stay what they
            are, since the page would show nothing without them.
    """
    schemas = _Schemas(description)
    words = {name: list[str](values) for name, values in _JSON_SCHEMA.items()}
    nothing = set[str]()
    for name, field in _fields(description["components"]["schemas"]):
        words.setdefault(name, []).extend(schemas.closed(field))
        if schemas.is_free(field):
            nothing.add(name)
    answers = dict[str, Any]()
    for path, calls in description["paths"].items():
        content = calls.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        example = schemas.example(content.get("application/json", {}).get("schema", {}))
        if isinstance(example, dict):
            answers["^" + re.sub(r"\{[^}]*\}", "[^?/]+", path) + r"(\?|$)"] = example
    settings = {
        "short": _SHORT,
        "long": _LONG,
        "words": words,
        "own": _SERVERS_OWN,
        "ids": _IDS,
        "nothing": sorted(nothing),
        "answers": answers,
    }
    return _SCRIPT.replace("SETTINGS;", f"{json.dumps(settings)};")


def inspection() -> str:
    """The expression for a list of what is wrong with a page, empty where all is well."""
    return f"{_INSPECT}({json.dumps(_HIDDEN)}, {json.dumps(_ELEMENTS.split())})"


def _fields(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of each object in a description, with its schema."""
    if isinstance(schema, list):
        for each in cast("list[Any]", schema):
            yield from _fields(each)
    elif isinstance(schema, dict):
        inside = cast("dict[str, Any]", schema)
        yield from inside.get("properties", {}).items()
        for each in inside.values():
            yield from _fields(each)


class _Schemas:
    """What the fields of a description may hold."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._named: dict[str, dict[str, Any]] = description["components"]["schemas"]

    def closed(self, schema: dict[str, Any]) -> list[str]:
        """The words of a closed set; none of any other text."""
        variants = self._variants(schema)
        inside = [word for each in variants if "items" in each for word in self.closed(each["items"])]
        words = [word for each in variants for word in each.get("enum", [each.get("const")])]
        return [word for word in words if isinstance(word, str)] + inside

    def is_free(self, schema: dict[str, Any]) -> bool:
        """Whether it may be any text, or nothing."""
        variants = self._variants(schema)
        texts = [each for each in variants if each.get("type") == "string"]
        is_bound = any({"enum", "const", "format", "pattern"} & each.keys() for each in texts)
        return len(variants) == 2 and len(texts) == 1 and not is_bound

    def example(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """A value that fits."""
        first = self._variants(schema)[0]
        if "const" in first or "enum" in first:
            return first.get("const") or first["enum"][0]
        match first.get("type"):
            case "object" if depth < 6:
                fields = first.get("properties", {}).items()
                return {name: self.example(field, depth + 1) for name, field in fields}
            case "array" if depth < 6:
                return [self.example(first.get("items", {}), depth + 1)]
            case "integer" | "number":
                return 3
            case "boolean":
                return True
            case "string" if "format" in first or "pattern" in first:
                return "2026-01-01T00:00:00Z" if first.get("format") == "date-time" else "3"
            case "string":
                return "x"
            case _:
                return None

    def _variants(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in schema:
            return self._variants(self._named[schema["$ref"].rsplit("/", 1)[1]])
        choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in schema.get(key, [])]
        return [each for choice in choices for each in self._variants(choice)] or [schema]
