"""What commands do to keep temporary files, and to fill a disk, as data: tried natively and in containers."""

from collections.abc import Mapping
from typing import Final

KEEPING: Mapping[str, str] = {
    "no rights": "mkdir -p a/b/c; touch a/b/c/f; chmod 000 a/b/c a/b a; chmod 000 .",
    "only to be entered": "mkdir a; touch a/f; chmod 111 a",
    "not to be changed": "mkdir a; touch a/f; chmod 555 a .",
    "4000 deep": """"$PYTHON" -c '
import os
for _ in range(4000): os.mkdir("d" * 20); os.chdir("d" * 20)'""",
    "deep and closed": """"$PYTHON" -c '
import os
for _ in range(300):
    os.mkdir("d"); above = os.open(".", os.O_RDONLY); os.chdir("d"); os.chmod("../d", 0o300)'""",
    "many": 'for i in {1..3000}; do : >"f$i"; done; mkdir -p {1..9}/{1..9}/{1..9}',
    "odd names": "mkdir $'a\\nb' $'\\xff' -- -rf; ln -s / root; mkfifo pipe; touch $'a\\nb/\\xfe'",
}
"""Shell scripts that make it hard to remove the directory that they work in; PYTHON names an interpreter."""

# Small pieces, so that nothing ends by the limit of one file.
WRITE: Final = """
import os, sys, time
data = bytes(4 << 20)
def write(path):
    with open(path, "wb") as file: file.write(data)
"""
FILLING: Mapping[str, str] = {
    "its directory": 'while True: write(f"f{time.time()}"); time.sleep(0.02)',
    "temporary files": """
os.chdir(os.environ["TMPDIR"])
while True: write(f"f{time.time()}"); time.sleep(0.02)""",
    "half and half": """
while True: write(f"f{time.time()}"); write(f'{os.environ["TMPDIR"]}/f{time.time()}'); time.sleep(0.02)""",
    "empty files": """
for name in range(10 ** 9): os.close(os.open(f"f{name}", os.O_CREAT)); name % 100 or time.sleep(0.002)""",
    "files without a name": """
held = []
while True:
    held.append(open("f", "wb")); os.unlink("f")
    held[-1].write(data); held[-1].flush(); time.sleep(0.02)""",
    "files that are mapped only": """
import mmap
held = []
while True:
    with open("f", "w+b") as file:
        file.write(data); file.flush(); held.append(mmap.mmap(file.fileno(), 4096))
    os.unlink("f"); time.sleep(0.02)""",
    "files on their way": """
import socket
ours, theirs = socket.socketpair()
while True:
    with open("f", "wb") as file:
        file.write(data); file.flush(); socket.send_fds(ours, [b"x"], [file.fileno()])
    os.unlink("f"); time.sleep(0.02)""",
    "files on their way through what is": """
import socket
outer, end = socket.socketpair()
while True:
    inner, far = socket.socketpair()
    with open("f", "wb") as file:
        file.write(data); file.flush(); socket.send_fds(inner, [b"x"], [file.fileno()])
    socket.send_fds(outer, [b"x"], [far.fileno(), inner.fileno()])
    inner.close(); far.close(); os.unlink("f"); time.sleep(0.02)""",
    "files in a closed directory": """
os.mkdir("closed"); held = [open(f"closed/{number}", "wb") for number in range(64)]; os.chmod("closed", 0)
for file in held: file.write(data); file.flush(); time.sleep(0.02)
time.sleep(1000)""",
}
"""Programs in Python, to be put after `WRITE`, that write until somebody ends them."""
