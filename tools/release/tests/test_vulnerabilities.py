"""What of a scanner's report ends a release, and what the allow list excuses; in grype's form of JSON."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scratch_checkout import ScratchCheckout
from stigmer_release.errors import EvidenceUnusable, HolesFound
from stigmer_release.git import Checkout
from stigmer_release.inherited import inherited_parts
from stigmer_release.vulnerabilities import Inherited, check, read_allow_list, read_findings

TODAY = date(2026, 11, 25)


def match(
    identifier: str, severity: str, package: str, fixed_in: list[str], related: list[str] | None = None
) -> dict[str, Any]:
    """A match as grype writes it, with the fields beside those that count."""
    return {
        "vulnerability": {
            "id": identifier,
            "dataSource": f"https://example.org/{identifier}",
            "namespace": "debian:distro:debian:12",
            "severity": severity,
            "urls": [],
            "cvss": [],
            "fix": {"versions": fixed_in, "state": "fixed" if fixed_in else "not-fixed"},
            "advisories": [],
        },
        "relatedVulnerabilities": [{"id": one, "namespace": "nvd:cpe"} for one in related or []],
        "matchDetails": [{"type": "exact-direct-match", "matcher": "dpkg-matcher"}],
        "artifact": {"name": package, "version": "1.0-1", "type": "deb", "locations": [], "licenses": []},
    }


def report(directory: Path, *matches: dict[str, Any]) -> Path:
    """A report with those matches."""
    file = directory / "report.json"
    document = {"matches": list(matches), "source": {"type": "sbom"}, "descriptor": {"name": "grype"}}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def allow_list(directory: Path, text: str) -> Path:
    """An allow list."""
    file = directory / "allowed.toml"
    file.write_text(text, encoding="utf-8")
    return file


def entry(identifier: str = "CVE-2026-1", package: str = "libone", until: str = "2026-12-24") -> str:
    """An entry of the list."""
    return (
        f'[[allowed]]\nid = "{identifier}"\npackage = "{package}"\nuntil = {until}\nreason = "not reached"\n'
    )


def test_fixable_high_findings_end_the_release_and_lower_or_unfixable_ones_do_not(tmp_path: Path) -> None:
    findings = read_findings(
        report(
            tmp_path,
            match("CVE-2026-1", "High", "libone", ["1.0-2"]),
            match("CVE-2026-2", "Critical", "libtwo", ["1.0-9"]),
            match("CVE-2026-3", "Critical", "libthree", []),
            match("CVE-2026-4", "Medium", "libfour", ["2.0"]),
        )
    )

    with pytest.raises(HolesFound) as found:
        check(findings, [])

    assert found.value.message == (
        "the image has known holes for which there are fixes: "
        "CVE-2026-1 (high) in libone 1.0-1, fixed in 1.0-2; "
        "CVE-2026-2 (critical) in libtwo 1.0-1, fixed in 1.0-9"
    )


def test_an_entry_excuses_its_finding_in_its_package_until_its_day_also_by_another_name(
    tmp_path: Path,
) -> None:
    findings = read_findings(
        report(tmp_path, match("GHSA-aaaa", "High", "libone", ["1.0-2"], related=["CVE-2026-1"]))
    )
    allowances = read_allow_list(allow_list(tmp_path, entry() + entry("CVE-2026-9", "libnine")), TODAY)

    assert check(findings, allowances) == [
        "1 known findings, 1 of them fixable and at least high",
        "CVE-2026-1 in libone: until 2026-12-24: not reached",
        "CVE-2026-9 in libnine: no longer found: remove the entry",
    ]
    with pytest.raises(HolesFound):
        check(findings, read_allow_list(allow_list(tmp_path, entry(package="libother")), TODAY))


def test_what_a_pull_request_found_in_place_is_told_and_does_not_block_it(tmp_path: Path) -> None:
    own = match("GHSA-1", "High", "Some.Package", ["2.0"])
    own["artifact"] |= {"type": "python", "version": "1.5"}
    findings = read_findings(report(tmp_path, match("CVE-2026-1", "High", "libone", ["1.0-2"]), own))

    same = check(findings, [], Inherited(frozenset({("some-package", "1.5")}), has_same_build=True))
    with pytest.raises(HolesFound) as new_base:
        check(findings, [], Inherited(frozenset({("some-package", "1.5")}), has_same_build=False))
    with pytest.raises(HolesFound) as new_package:
        check(findings, [], Inherited(frozenset({("some-package", "1.4")}), has_same_build=True))

    assert same[1] == (
        "not of this change, and ends the next release: "
        "GHSA-1 (high) in Some.Package 1.5, fixed in 2.0; CVE-2026-1 (high) in libone 1.0-1, fixed in 1.0-2"
    )
    assert "CVE-2026-1" in new_base.value.message and "GHSA-1" not in new_base.value.message
    assert "GHSA-1" in new_package.value.message and "CVE-2026-1" not in new_package.value.message


def test_what_was_in_place_is_what_lock_file_and_build_say(tmp_path: Path) -> None:
    checkout = ScratchCheckout(tmp_path / "checkout")
    same = inherited_parts(Checkout(checkout.root), "HEAD")
    checkout.write("backend/services/agent-runner/Dockerfile", "FROM scratch\n")
    checkout.write("uv.lock", '[[package]]\nname = "Some_Package"\nversion = "1.5"\n')
    other = inherited_parts(Checkout(checkout.root), "HEAD~2")
    newest = inherited_parts(Checkout(checkout.root), "HEAD")

    assert (same.has_same_build, other.has_same_build) == (True, False)
    assert other.python_packages == same.python_packages
    assert newest.python_packages == {("some-package", "1.5")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (entry(until="2026-11-24"), "has ended on 2026-11-24"),
        (entry(until="2027-11-24"), "ends on 2027-11-24, later than 90 days from now"),
        (entry(until='"soon"'), "ends on 'soon', which is no date"),
        (
            '[[allowed]]\nid = "CVE-2026-1"\npackage = "libone"\nuntil = 2026-12-24\n',
            "must have id, package, until and reason, and nothing else",
        ),
        (
            entry().replace("not reached", "  "),
            "must have id, package, until and reason, and nothing else",
        ),
    ],
)
def test_an_entry_that_has_ended_or_says_too_little_ends_the_release(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = allow_list(tmp_path, text)

    with pytest.raises(EvidenceUnusable) as refused:
        read_allow_list(file, TODAY)

    assert refused.value.message == f"CVE-2026-1 in {file} {problem}"


@pytest.mark.parametrize("text", ["", "[]", '{"matches": [{"vulnerability": {}}]}', '{"matches": 1}'])
def test_what_is_no_report_is_not_taken_for_one_without_findings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(EvidenceUnusable):
        read_findings(file)


def test_the_allow_list_of_this_checkout_can_be_read_today() -> None:
    root = Path(__file__).resolve().parents[3]

    read_allow_list(root / "tools/release/allowed-vulnerabilities.toml", date.today())  # noqa: DTZ011  # days
