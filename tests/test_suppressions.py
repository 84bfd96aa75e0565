"""Every finding of ruff's security rules that is let pass says why, where it is let pass."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SUPPRESSION = re.compile(r"#\s*noqa:\s*(?:[A-Z]+\d+,\s*)*S\d+(?P<rest>.*)")
REASON = re.compile(r"(?:,\s*[A-Z]+\d+)*\s+(?:-|#)\s+\w.{5,}")


def test_every_suppressed_security_finding_has_a_reason() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
    )

    bare: list[str] = []
    found = 0
    for name in listed.stdout.split():
        for number, line in enumerate((REPOSITORY / name).read_text(encoding="utf-8").splitlines(), 1):
            for match in SUPPRESSION.finditer(line):
                found += 1
                if not REASON.match(match["rest"]):
                    bare.append(f"{name}:{number}: {line.strip()}")

    assert bare == []
    assert found > 10
