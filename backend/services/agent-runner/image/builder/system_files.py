"""Turns the base image's files, under a directory, into the runner image's: what agents and Python need.

Decides what is kept; how packages come and go is in packages.py.
"""

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packages import LeftOut, PackageTree

PACKAGES: Final = (
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "git",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "libstdc++6",  # wheels that agents install count on it
    "mawk",
    "netbase",
    "sed",
    "tar",
    "tzdata",
    "util-linux",
    "xz-utils",
)

KEPT_WHERE_INSTALLED: Final = ("python3-pip-whl", "python3-setuptools-whl")
"""What `python3 -m venv` installs, where that is Debian's; the official image has it inside Python."""

# By the names of Debian 12 and 13, either of which the base image may be.
LEFT_OUT: Final[LeftOut] = {
    # Needed while installing packages, which is not done here.
    "*": frozenset({"debconf", "debconf-2.0", "dpkg", "install-info"}),
    # 40 MB for the few subcommands that are Perl scripts.
    "git": frozenset({"git-man", "liberror-perl", "perl"}),
    "libsasl2-2": frozenset({"libsasl2-modules-db"}),
    "libssl3t64": frozenset({"openssl-provider-legacy"}),
    # For its programs that tell who is logged in.
    "coreutils": frozenset({"libsystemd0"}),
    # For its programs that look after disks and log-ins.
    "util-linux": frozenset(
        {
            "libaudit1",
            "libblkid1",
            "liblastlog2-2",
            "libmount1",
            "libpam-modules",
            "libpam-runtime",
            "libpam0g",
        }
        | {"libsmartcols1", "libsystemd0", "libudev1", "login", "util-linux-extra"}
    ),
}

REMOVED: Final = (
    "boot",
    "etc/apt",
    "etc/cron*",
    "etc/default",
    "etc/init.d",
    "etc/logrotate.d",
    "etc/pam*",
    "etc/rc?.d",
    "etc/systemd",
    "etc/update-motd.d",
    "media",
    "srv",
    "usr/games",
    "usr/lib/*-linux-gnu/gconv/[!UIgL]*",
    "usr/lib/*-linux-gnu/gconv/I[!S]*",
    "usr/lib/*-linux-gnu/gconv/ISO[!8]*",
    "usr/lib/git-core/git-add--interactive",
    "usr/lib/git-core/git-archimport",
    "usr/lib/git-core/git-cvs*",
    "usr/lib/git-core/git-daemon",
    "usr/lib/git-core/git-http-backend",
    "usr/lib/git-core/git-http-fetch",
    "usr/lib/git-core/git-http-push",
    "usr/lib/git-core/git-imap-send",
    "usr/lib/git-core/git-instaweb",
    "usr/lib/git-core/git-p4",
    "usr/lib/git-core/git-request-pull",
    "usr/lib/git-core/git-send-email",
    "usr/lib/git-core/git-shell",
    "usr/lib/git-core/git-svn",
    "usr/lib/git-core/scalar",
    "usr/bin/git-shell",
    "usr/bin/scalar",
    "usr/bin/localedef",
    "usr/bin/perl*",
    "usr/lib/*-linux-gnu/libbrotlienc.so*",
    "usr/lib/systemd",
    "usr/local/bin/2to3*",
    "usr/local/bin/idle*",
    "usr/local/bin/pip*",
    "usr/local/bin/pydoc*",
    "usr/local/bin/wheel",
    "usr/local/games",
    "usr/local/include",
    "usr/local/lib/pkgconfig",
    "usr/local/lib/python3.*/config-*",
    "usr/local/lib/python3.*/idlelib",
    "usr/local/lib/python3.*/lib-dynload/*_test*",
    "usr/local/lib/python3.*/lib-dynload/_dbm.*",
    "usr/local/lib/python3.*/lib-dynload/_tkinter.*",
    "usr/local/lib/python3.*/lib-dynload/nis.*",
    "usr/local/lib/python3.*/lib-dynload/*xx[lt]*",
    "usr/local/lib/python3.*/lib2to3",
    "usr/local/lib/python3.*/pydoc_data",
    "usr/local/lib/python3.*/site-packages/*",
    "usr/local/lib/python3.*/test",
    "usr/local/lib/python3.*/*/test",
    "usr/local/lib/python3.*/*/tests",
    "usr/local/lib/python3.*/tkinter",
    "usr/local/lib/python3.*/turtle*",
    "usr/local/man",
    "usr/local/share/man",
    "usr/share/bash-completion",
    "usr/share/debconf",
    "usr/share/gitweb",
    "usr/share/info/*",
    "usr/share/lintian",
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/perl5",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    "usr/sbin/[!clu]*",
    "usr/sbin/c[!h]*",
    "usr/sbin/ch[!r]*",
    "usr/src",
    "var/backups",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/pam",
    "var/lib/systemd",
    "var/log/*",
    "tmp/*",
)
"""What no agent reads; of glibc's character sets the Unicode and Latin ones stay."""

WORKSPACE_MODE: Final = 0o1733
"""Whoever the container runs as may make a directory of their own here; nobody but root may list or watch the
names of the others'. A new named volume takes this mode over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="directory with the base image's files")
    parser.add_argument("packages", nargs="*", help="further Debian packages")
    arguments = parser.parse_args()
    root: Path = arguments.root
    names = [*PACKAGES, *arguments.packages]
    tree = PackageTree(root, LEFT_OUT)
    tree.add(names)
    remove_files(root)
    python = [*root.glob("usr/local/bin/python3*"), *root.glob("usr/local/lib/**/*.so*")]
    needed = set[str]().union(*needed_libraries(python).values())
    tree.keep_only([*names, *KEPT_WHERE_INSTALLED, *tree.owners_of_libraries(needed)])
    remove_broken_programs(root)
    remove_dangling_links(root)
    link_duplicate(root / "usr/lib/git-core/git", root / "usr/bin/git", "../../bin/git")
    add_user(root)


def needed_libraries(binaries: Iterable[Path]) -> dict[Path, set[str]]:
    """The shared libraries that each of these files is linked with; files that are no programs have none."""
    paths = [str(path) for path in binaries if path.is_file() and not path.is_symlink()]
    headers = subprocess.run(
        ["readelf", "--dynamic", "--wide", "/dev/null", *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout.decode("utf-8")
    return {
        Path(header.partition("\n")[0]): set(re.findall(r"\(NEEDED\).*\[(.+)\]", header))
        for header in headers.split("\nFile: ")[1:]
    }


def remove_broken_programs(root: Path) -> None:
    """Remove programs that are linked with a library that was left out."""
    libraries = {path.name for path in root.glob("usr/lib/**/*.so*")}
    programs = [
        path for directory in ("bin", "sbin", "lib/git-core") for path in root.glob(f"usr/{directory}/*")
    ]
    for program, needed in needed_libraries(programs).items():
        if not needed <= libraries:
            program.unlink()


def remove_files(root: Path) -> None:
    """Remove what is not needed, and all documentation but licences."""
    for pattern in REMOVED:
        for path in list(root.glob(pattern)):
            remove(path)
    for path in [*root.glob("usr/share/doc/*/*"), *root.glob("usr/**/__pycache__")]:
        if path.name != "copyright":
            remove(path)


def remove_dangling_links(root: Path) -> None:
    for directory in ("etc/alternatives", "usr/bin", "usr/sbin"):
        for path in list(root.glob(f"{directory}/*")):
            if path.is_symlink() and not leads_somewhere(path, root):
                remove(path)


def leads_somewhere(link: Path, root: Path) -> bool:
    target = link.readlink()
    return os.path.lexists(root / target.relative_to("/") if target.is_absolute() else link.parent / target)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_duplicate(duplicate: Path, original: Path, link: str) -> None:
    """Make a second copy of a file a link to the first, where it is one."""
    if not duplicate.is_symlink() and duplicate.read_bytes() == original.read_bytes():
        duplicate.unlink()
        duplicate.symlink_to(link)


def add_user(root: Path) -> None:
    """Add the user `stigmer`, and the directory that sessions' workspaces go into."""
    for file, line in (
        ("etc/passwd", "stigmer:x:1000:1000::/tmp:/bin/bash\n"),
        ("etc/group", "stigmer:x:1000:\n"),
        ("etc/shadow", "stigmer:!:20000:0:99999:7:::\n"),
    ):
        with (root / file).open("a", encoding="utf-8") as stream:
            stream.write(line)
    workspace = root / "workspace"
    workspace.mkdir()
    workspace.chmod(WORKSPACE_MODE)


if __name__ == "__main__":
    main()
