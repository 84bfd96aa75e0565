"""Holds what a scanner found against the allow list: fixable high findings end the release.

Reads grype's JSON. An entry of the allow list names a finding, a package, a reason and its last day.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, cast

from stigmer_release.errors import EvidenceUnusable, HolesFound

SEVERE: Final = frozenset({"high", "critical"})
LONGEST_DAYS: Final = 90
"""An entry must be looked at again after so long."""


@dataclass(frozen=True)
class Finding:
    """A known hole in a package of the image."""

    identifier: str
    aliases: frozenset[str]
    severity: str
    """Lower case."""
    package: str
    version: str
    kind: str
    """Of package, as the scanner calls it: `deb`, `python`."""
    fixed_in: tuple[str, ...]
    """Versions without it; none: there is no fix."""

    @property
    def is_blocking(self) -> bool:
        """Whether it must be fixed before a release."""
        return self.severity in SEVERE and bool(self.fixed_in)


@dataclass(frozen=True)
class Inherited:
    """What an image had before a change."""

    python_packages: frozenset[tuple[str, str]]
    """Normal names (PEP 503) with their versions."""
    has_same_build: bool
    """Whether it is built as before, from the same base."""

    def has(self, finding: Finding) -> bool:
        """Whether the finding's package was there already."""
        if finding.kind == "python":
            name = re.sub(r"[-_.]+", "-", finding.package).lower()
            return (name, finding.version) in self.python_packages
        return self.has_same_build


@dataclass(frozen=True)
class Allowance:
    """An entry of the allow list."""

    identifier: str
    package: str
    until: date
    """The last day on which it counts."""
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether it is about that finding."""
        return finding.package == self.package and self.identifier in {finding.identifier, *finding.aliases}


def read_findings(file: Path) -> list[Finding]:
    """What grype found.

    Raises:
        EvidenceUnusable: it is not grype's report.
    """
    try:
        matches = cast("list[dict[str, Any]]", json.loads(file.read_text("utf-8"))["matches"])
        return [_finding(match) for match in matches]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceUnusable(f"{file} is no report of grype: {error!r}") from error


def read_allow_list(file: Path, today: date) -> list[Allowance]:
    """The entries, of which none has ended or ends too late.

    Raises:
        EvidenceUnusable: naming the entry and what is wrong with it.
    """
    try:
        entries = cast("list[dict[str, Any]]", tomllib.loads(file.read_text("utf-8")).get("allowed", []))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise EvidenceUnusable(f"could not read the allow list {file}: {error}") from error
    return [_allowance(entry, file, today) for entry in entries]


def check(
    findings: list[Finding], allowances: list[Allowance], inherited: Inherited | None = None
) -> list[str]:
    """Lines for the log: what is allowed, and which entries nothing needs any more.

    `inherited`: what was in the image before a change; its holes are told, and end nothing.

    Raises:
        HolesFound: with every finding that blocks and that no entry covers.
    """
    blocking = [finding for finding in findings if finding.is_blocking]
    every = [one for one in blocking if not any(entry.covers(one) for entry in allowances)]
    open_ones = [one for one in every if inherited is None or not inherited.has(one)]
    if open_ones:
        raise HolesFound(
            f"the image has known holes for which there are fixes: {_list(open_ones)}",
            "update the package, or add an entry with a reason and an end to the allow list",
        )
    lines = [f"{len(findings)} known findings, {len(blocking)} of them fixable and at least high"]
    if every:
        lines.append(f"not of this change, and ends the next release: {_list(every)}")
    for entry in allowances:
        is_used = any(entry.covers(one) for one in blocking)
        what = f"until {entry.until}: {entry.reason}" if is_used else "no longer found: remove the entry"
        lines.append(f"{entry.identifier} in {entry.package}: {what}")
    return lines


def _list(findings: list[Finding]) -> str:
    return "; ".join(
        f"{one.identifier} ({one.severity}) in {one.package} {one.version}, fixed in {one.fixed_in[0]}"
        for one in sorted(findings, key=lambda one: (one.package, one.identifier))
    )


def _finding(match: dict[str, Any]) -> Finding:
    hole, artifact = match["vulnerability"], match["artifact"]
    related = cast("list[dict[str, Any]]", match.get("relatedVulnerabilities") or [])
    fix = cast("dict[str, Any]", hole.get("fix") or {})
    return Finding(
        identifier=str(hole["id"]),
        aliases=frozenset(str(other["id"]) for other in related),
        severity=str(hole["severity"]).lower(),
        package=str(artifact["name"]),
        version=str(artifact["version"]),
        kind=str(artifact.get("type", "")),
        fixed_in=tuple(map(str, fix.get("versions") or [])) if fix.get("state") == "fixed" else (),
    )


def _allowance(entry: dict[str, Any], file: Path, today: date) -> Allowance:
    name = f"{entry.get('id', 'an entry without id')} in {file}"
    if set(entry) != {"id", "package", "until", "reason"} or not str(entry["reason"]).strip():
        raise EvidenceUnusable(f"{name} must have id, package, until and reason, and nothing else")
    until = entry["until"]
    if not isinstance(until, date):
        raise EvidenceUnusable(f"{name} ends on {until!r}, which is no date", "write until = YYYY-MM-DD")
    if until < today:
        raise EvidenceUnusable(f"{name} has ended on {until}", "fix the hole, or give a new reason and end")
    if (until - today).days > LONGEST_DAYS:
        raise EvidenceUnusable(f"{name} ends on {until}, later than {LONGEST_DAYS} days from now")
    return Allowance(str(entry["id"]), str(entry["package"]), until, str(entry["reason"]))
