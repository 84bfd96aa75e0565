"""Prints the places of a text where a word of the table stands; ends with 1 where there is any."""

import re
import sys
from pathlib import Path

table = (Path(__file__).parents[1] / "references" / "words.md").read_text(encoding="utf-8")
words = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)[1:]
found = [
    f"{sys.argv[1]}:{number}: {word}"
    for number, line in enumerate(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines(), start=1)
    for word in words
    if re.search(rf"\b{word}", line, re.IGNORECASE)
]
print("\n".join(found) or "nothing found")
sys.exit(1 if found else 0)
