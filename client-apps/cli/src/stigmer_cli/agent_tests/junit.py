"""Results as JUnit XML, in the form that Jenkins' schema (junit-10.xsd) and its readers take."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Final

from stigmer_cli.agent_tests.report import Outcome

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0, section 2.2."""


def junit_xml(outcomes: Sequence[Outcome], *, strict: bool) -> str:
    """One suite with a case for each test."""
    failed = sum(not each.is_good(strict=strict) for each in outcomes)
    skipped = 0 if strict else sum(each.skipped_because is not None for each in outcomes)
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(failed),
        "errors": "0",
        "time": f"{sum(each.seconds for each in outcomes):.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "stigmer test", **counts})
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": "stigmer test", **counts, "skipped": str(skipped)}
    )
    for each in outcomes:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "name": _text(each.name),
                "classname": _text(str(each.path.parent)),
                "time": f"{each.seconds:.3f}",
            },
        )
        if not each.is_good(strict=strict):
            first = each.why.splitlines()[0] if each.why else "failed"
            failure = ElementTree.SubElement(
                case, "failure", {"message": _text(first), "type": "expectation"}
            )
            failure.text = _text(each.why)
        elif each.skipped_because is not None:
            ElementTree.SubElement(case, "skipped", {"message": _text(each.skipped_because)})
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
