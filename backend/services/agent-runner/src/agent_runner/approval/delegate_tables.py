"""Which programs are handed commands, and how: the tables of `delegates`. A program is an entry. Pure."""

import re
from collections.abc import Mapping
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


COMMAND_OPTIONS: Final[Mapping[str, str]] = {
    "ssh": "-o",
    "scp": "-o -S",
    "sftp": "-o -S",
    "autossh": "-o",
    "rsync": "-e --rsh --rsync-path",
    "tar": "-I -F --checkpoint-action --to-command --use-compress-program --info-script --new-volume-script"
    " --rsh-command --rmt-command",
    "zip": "-TT --unzip-command",
    "sort": "--compress-program",
    "split": "--filter",
    "rg": "--pre",
    "docker": "--entrypoint",
    "podman": "--entrypoint",
    "man": "-P -H --pager --html",
    "gcc": "-wrapper",
    "cc": "-wrapper",
    "clang": "-wrapper",
    "su": "-c --command --session-command",
    "runuser": "-c --command --session-command",
    "script": "-c --command",
    "flock": "-c --command",
    "capsh": "-c",
    "fish": "-c -C --command --init-command",
    "npm": "-c --call --script-shell",
    "npx": "-c --call",
    "pnpm": "-c --shell-mode",
    "nix": "-c --command --",
    "salt": "cmd.run",
    "nix-shell": "--run --command",
    "nodemon": "-x --exec",
    "watchexec": "--",
    "cargo": "-x -s",
    "entr": "-s",
    "nc": "-e -c",
    "ncat": "-e -c --exec --sh-exec --lua-exec",
    "mapfile": "-C",
    "readarray": "-C",
    "complete": "-C -F",
    "compgen": "-C -F",
    "ansible": "-a --args",
    "vagrant": "-c --command",
    "gcloud": "--command",
    "fly": "-C --command",
    "doppler": "--command",
    "mise": "-c --command",
    "bind": "-x",
    "git": "-x -O -u --exec --extcmd --upload-pack --receive-pack --open-files-in-pager --tree-filter"
    " --index-filter --msg-filter --env-filter --commit-filter --parent-filter --tag-name-filter --setup",
}
"""Options whose value is a command. A letter may stand together with its value, a word with `=`."""
ALL_ARGUMENTS: Final = _names(
    "watch hyperfine concurrently pee entr socat tmux screen parallel sem alias cmd powershell"
)
"""Each argument may be a command, or a part of one."""
RUN_FIRST: Final = _names(
    """pkexec runuser npx wsl runcon tini dumb-init proot eatmydata torsocks torify proxychains
    proxychains4 xvfb-run dbus-run-session catchsegv valgrind chpst softlimit with-contenv chronic
    ifne run-one cpulimit numactl prlimit choom uclampset trickle sshpass unbuffer rlwrap linux32
    linux64 arch caffeinate ld.so bunx uvx faketime busybox toybox watchexec firejail bwrap"""
)
"""The first operand that is no value of an option is a program."""
RUN_SECOND: Final = _names("flock setuidgid s6-setuidgid envdir gosu su-exec chroot pssh pdsh fab vault")
"""The first operand is something else."""
RUN_BEHIND: Final[Mapping[str, Mapping[str, int]]] = {
    "docker": {"run": 1, "exec": 1},
    "podman": {"run": 1, "exec": 1},
    "nerdctl": {"run": 1, "exec": 1},
    "kubectl": {"exec": 1},
    "oc": {"exec": 1, "rsh": 1},
    "uv": {"run": 0},
    "poetry": {"run": 0},
    "pipenv": {"run": 0},
    "pdm": {"run": 0},
    "rye": {"run": 0},
    "hatch": {"run": 0},
    "bundle": {"exec": 0},
    "npm": {"exec": 0},
    "pnpm": {"exec": 0, "dlx": 0},
    "yarn": {"exec": 0, "dlx": 0},
    "mise": {"x": 0, "exec": 0},
    "asdf": {"exec": 0},
    "pyenv": {"exec": 0},
    "rbenv": {"exec": 0},
    "rustup": {"run": 1},
    "conda": {"run": 0},
    "micromamba": {"run": 0},
    "direnv": {"exec": 1},
    "op": {"run": 0},
    "dotenv": {"run": 0},
    "dotenvx": {"run": 0},
    "doppler": {"run": 0},
    "heroku": {"run": 0},
    "aws-vault": {"exec": 1},
    "chamber": {"exec": 1},
    "sops": {"exec-env": 1, "exec-file": 1},
    "cmake": {"env": 0, "time": 0},
    "git": {"run": 0, "foreach": 0},
}
"""By subcommand: how many operands stand between it and the program. Behind `--` it follows at once."""
VALUELESS: Final = re.compile(
    r"-[itdTnqvAXNf46]+|--(?:rm|init|privileged|interactive|tty|detach|stdin|quiet)"
)
REMOTE: Final[Mapping[str, int]] = {"ssh": 1, "autossh": 1, "mosh": 1}
"""How many operands stand in front of a command that another machine's shell reads."""
FOREIGN_OPTIONS: Final[Mapping[str, str]] = {
    "vim": "-c -s -S --cmd +",
    "vi": "-c -s -S --cmd +",
    "nvim": "-c -s -S --cmd +",
    "view": "-c -s -S --cmd +",
    "ex": "-c -s -S --cmd +",
    "less": "+",
    "more": "+",
    "emacs": "--eval --execute --script -l --load",
    "expect": "-c",
    "lldb": "-o --one-line",
    "pwsh": "-c -e -ec --command --encodedcommand",
    "powershell": "-c -e -ec --command --encodedcommand",
    "nu": "-c --commands",
    "xonsh": "-c",
    "elvish": "-c",
    "ipython": "-c",
    "R": "-e",
    "swipl": "-g -t",
    "ghc": "-e",
    "guile": "-c",
    "racket": "-e --eval",
    "sbcl": "--eval",
    "clojure": "-e -M",
    "elixir": "-e --eval --rpc-eval",
    "erl": "-eval",
    "scala": "-e",
    "groovy": "-e",
    "ocaml": "-e",
    "tcc": "-run",
    "dc": "-e --expression",
}
PLAIN_VALUE: Final = re.compile(r"\+?:?(?:[0-9]+|w?qa?!?|x|set [\w=]+|syntax on|G)?")
"""What an editor or a pager may be told without harm."""
FOREIGN_INPUT: Final = _names(
    """pwsh nu xonsh elvish ipython R ghci groovysh jshell swipl guile pry ts-node tsx tclsh expect dc
    ed ex gdb lldb at batch newgrp telnet parallel"""
)
"""Without an operand they run what they read from standard input."""
SHELLS_OF_USERS: Final = _names("su sudo doas login")
DATABASES: Final = re.compile(
    r"\\!|\\copy|\\o\s*\||\bprogram\b|^[ \t]*\.(?:shell|system|load|import\s*\"?\|)|load_extension"
    r"|\bsystem\b|\bedit\(|\\g\s*\|",
    re.IGNORECASE | re.MULTILINE,
)
DATABASE_PROGRAMS: Final = _names("psql mysql mariadb sqlite3 sqlite duckdb")
DEBUGGER_RUNS: Final = re.compile(
    r"!|\b(?:shell|python|py|guile|eval|source|pipe|make|call|print|compile)\b|\|"
)
HARMLESS_KEYS: Final = re.compile(
    r"(?:user|color|advice|safe|init|push|pull|commit|log|fetch|gc|format|status|column|i18n|branch|http|url|merge|rebase"
    r"|diff)\.(?!.*(?:tool|driver|cmd|command|external|textconv|path|helper))[\w./:@-]*=.*"
    r"|core\.(?:autocrlf|quotepath|eol|filemode|ignorecase|longpaths|safecrlf|bare|worktree|excludesfile|symlinks"
    r"|abbrev|compression|precomposeunicode)=.*",
    re.IGNORECASE | re.DOTALL,
)
SUBSTITUTION: Final = re.compile(r"\$|`")
COMMAND_VARIABLES: Final = re.compile(
    r"GIT_(?:\w*_COMMAND|PAGER|EDITOR|SEQUENCE_EDITOR|EXTERNAL_DIFF|ASKPASS|SSH|CONFIG_PARAMETERS|CONFIG_VALUE_\d+)"
    r"|(?:MAN|SYSTEMD_)?PAGER|(?:SUDO_|HG|SVN_|FC)?EDITOR|FCEDIT|VISUAL|BROWSER|LESSOPEN|LESSCLOSE|RSYNC_RSH|CVS_RSH"
    r"|(?:SSH|SUDO)_ASKPASS|MANOPT|LESS|PERL5OPT|PERL5DB|RUBYOPT|NODE_OPTIONS|MAKEFLAGS|GNUMAKEFLAGS|TAR_OPTIONS|RSYNC_CONNECT_PROG|PROMPT_COMMAND"
)
LOADING_VARIABLES: Final = re.compile(r"BASH_ENV|ENV|SHELLOPTS|BASHOPTS|BASH_FUNC_\w+|PROMPT_COMMAND")
