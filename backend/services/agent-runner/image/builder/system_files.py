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
    "curl",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "git",
    "grep",
    "gzip",
    "hostname",
    "jq",
    "less",
    "libc-bin",
    "libnss-extrausers",  # for users that have no name; see agent_runner.user_name
    "libstdc++6",  # wheels that agents install count on it
    "make",
    "mawk",
    "netbase",
    "openssh-client",
    "patch",
    "procps",
    "sed",
    "tar",
    "tzdata",
    "unzip",
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
    # For keys that are devices, and for making users.
    "openssh-client": frozenset({"adduser", "libfido2-1", "passwd"}),
    "procps": frozenset({"init-system-helpers"}),
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
    "usr/lib/openssh/ssh-keysign",
    "usr/lib/openssh/ssh-sk-helper",
    "usr/lib/systemd",
    "usr/lib32",
    "usr/local/bin/2to3*",
    "usr/local/bin/idle*",
    "usr/local/bin/pip*",
    "usr/local/bin/pydoc*",
    "usr/local/bin/wheel",
    "usr/local/games",
    "usr/local/include",
    "usr/local/lib/pkgconfig",
    "usr/local/lib/python3.*/EXTERNALLY-MANAGED",
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
    "usr/share/debconf",
    "usr/share/gitweb",
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
"""What no agent reads; of glibc's character sets the Unicode and Latin ones stay.

Of further packages all stays."""

DOCUMENTATION: Final = (
    "usr/local/man",
    "usr/local/share/man",
    "usr/share/bash-completion",
    "usr/share/info/*",
    "usr/share/lintian",
    "usr/share/locale/*",
    "usr/share/man/*",
)
"""Removed of all packages."""

REMOVED_WHERE_UNUSED: Final = ("usr/lib/*-linux-gnu/libbrotlienc.so*",)
"""Libraries beside others that are needed."""

GIT_CONFIGURATION: Final = """\
# What holds where neither the repository, nor a session's ~/.gitconfig, nor the environment says otherwise.
[user]
\tname = Stigmer
\temail = agent@localhost
# The workspace may be another user's: whoever mounted it chose it, and commands are held in.
[safe]
\tdirectory = *
"""

SSH_CONFIGURATION: Final = """\
# The home directory that ssh would look in is that of no session.
Host *
    UserKnownHostsFile ${HOME}/.ssh/known_hosts
    IdentityFile ${HOME}/.ssh/id_ed25519
    IdentityFile ${HOME}/.ssh/id_rsa
"""

USER_LISTS: Final = "var/lib/extrausers"
"""Links to where the runner may write; see agent_runner.user_name."""

ELF_MAGIC: Final = b"\x7fELF"

WORKSPACE_MODE: Final = 0o1733
"""Whoever the container runs as may make a directory of their own here; nobody but root may list or watch the
names of the others'. A new named volume takes this mode over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="directory with the base image's files")
    parser.add_argument("packages", nargs="*", help="further Debian packages")
    parser.add_argument(
        "--with-headers", action="store_true", help="keep what Python's extensions are built with"
    )
    arguments = parser.parse_args()
    root: Path = arguments.root
    names = [*PACKAGES, *arguments.packages]
    tree = PackageTree(root, LEFT_OUT)
    tree.add(names)
    tree.link_choices()
    spared = tree.files_only_of(arguments.packages, PACKAGES)
    if arguments.with_headers:
        spared |= {f"/{path.relative_to(root)}" for path in root.glob("usr/local/include/**/*")}
    remove_files(root, spared)
    python = [*root.glob("usr/local/bin/python3*"), *root.glob("usr/local/lib/**/*.so*")]
    needed = set[str]().union(*needed_libraries(python).values())
    tree.keep_only([*names, *KEPT_WHERE_INSTALLED, *tree.owners_of_libraries(needed)])
    remove_broken_programs(root)
    remove_unused_libraries(root)
    remove_dangling_links(root)
    link_duplicate(root / "usr/lib/git-core/git", root / "usr/bin/git", "../../bin/git")
    add_user(root)
    (root / "etc/gitconfig").write_text(GIT_CONFIGURATION, "utf-8")
    # Not beside it in ssh_config.d: such files must be root's, and commands with mounts of their own
    # see them as nobody's.
    with (root / "etc/ssh/ssh_config").open("a", encoding="utf-8") as stream:
        stream.write(SSH_CONFIGURATION)


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


def remove_unused_libraries(root: Path) -> None:
    programs = [path for directory in ("usr", "opt") for path in root.glob(f"{directory}/**/*")]
    needed = set[str]().union(*needed_libraries(path for path in programs if is_program(path)).values())
    for pattern in REMOVED_WHERE_UNUSED:
        for path in list(root.glob(pattern)):
            if not any(path.name.startswith(name) or name.startswith(path.name) for name in needed):
                path.unlink()


def is_program(path: Path) -> bool:
    """Whether it is a program or library, not a link to one."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(ELF_MAGIC)) == ELF_MAGIC


def remove_files(root: Path, asked_for: Iterable[str]) -> None:
    """Remove what is not needed, and all documentation but licences; of what was asked for only that."""
    spared = {in_merged_usr(path) for path in asked_for}
    above = {str(parent) for path in spared for parent in Path(path).parents}
    for pattern in REMOVED:
        for path in list(root.glob(pattern)):
            remove_unless(path, root, spared, above)
    for pattern in DOCUMENTATION:
        for path in list(root.glob(pattern)):
            remove(path)
    for path in [*root.glob("usr/share/doc/*/*"), *root.glob("usr/**/__pycache__")]:
        if path.name != "copyright":
            remove(path)


def remove_unless(path: Path, root: Path, spared: set[str], above: set[str]) -> None:
    """Remove it, or so much of it as is neither spared nor a directory with something that is."""
    within = f"/{path.relative_to(root)}"
    if within in above and path.is_dir() and not path.is_symlink():
        for entry in list(path.iterdir()):
            remove_unless(entry, root, spared, above)
    elif within not in spared:
        remove(path)


def in_merged_usr(path: str) -> str:
    """The path as it is where /bin and /lib are links into /usr, which older packages do not know."""
    return f"/usr{path}" if path.split("/")[1] in ("bin", "lib", "lib32", "lib64", "sbin") else path


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
    """Add the user `stigmer`, the directory of sessions' workspaces, and where further users are named."""
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
    lists = root / USER_LISTS
    lists.mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group"):
        (lists / name).symlink_to(f"/tmp/stigmer-users/{name}")  # noqa: S108 - the container's own
    services = root / "etc/nsswitch.conf"
    services.write_text(
        re.sub(
            r"^(passwd|group):\s+files\b",
            r"\g<0> extrausers",
            services.read_text("utf-8"),
            flags=re.MULTILINE,
        ),
        "utf-8",
    )


if __name__ == "__main__":
    main()
