"""Programs that run other programs, by how they do. Names; what that means for a command is `unseen`'s."""

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHELLS: Final = _names("sh bash dash zsh ksh mksh ash fish csh tcsh rbash busybox toybox")
RUN_WORDS: Final = _names(
    """env sudo doas xargs nice timeout nohup time exec command builtin setsid stdbuf ionice chrt taskset
    flock watch strace ltrace parallel chroot unshare nsenter setpriv coproc systemd-run setarch fakeroot"""
)
"""Their first word that is no option is a program."""
FINDERS: Final = _names("find fd fdfind")
WRAPPERS: Final = (
    RUN_WORDS
    | FINDERS
    | _names(
        """su gdb runuser script ssh entr start-stop-daemon daemonize caffeinate arch linux32 linux64
        catchsegv valgrind perf chpst softlimit tini dumb-init gosu su-exec proot eatmydata bwrap firejail
        torsocks proxychains uv uvx npx pnpx bunx pipx poetry pipenv conda mise direnv
        nix-shell bundle make xvfb-run
        dbus-run-session rlwrap unbuffer screen tmux at batch crontab wsl nodemon hyperfine git-shell"""
    )
)
"""All programs whose arguments are, or hold, a command."""
EVALUATORS: Final = _names("eval trap . source")
TEXT_PROGRAMS: Final = _names("awk gawk mawk nawk sed")
"""What they are told to do is an argument, and says plainly when it starts something."""
INTERPRETERS: Final = TEXT_PROGRAMS | _names(
    """python pypy perl ruby irb node nodejs deno bun php lua luajit osascript Rscript tclsh expect groovy
    julia ghci guile racket sqlite3 psql mysql vim vi ex ed emacs"""
)
CODE_OPTIONS: Final = {
    "python": "c",
    "pypy": "c",
    "perl": "eE",
    "ruby": "e",
    "node": "ep",
    "nodejs": "ep",
    "php": "rBRE",
    "lua": "e",
    "luajit": "e",
    "bun": "e",
    "osascript": "e",
    "Rscript": "e",
    "julia": "eE",
    "tclsh": "",
    "irb": "",
}
"""Of the interpreters that read code from standard input: the letters of options with code behind them."""
VALUE_OPTIONS: Final = {
    "python": "WX",
    "pypy": "WX",
    "perl": "MmIiF",
    "ruby": "rIi",
    "node": "r",
    "nodejs": "r",
    "php": "dc",
    "lua": "l",
    "luajit": "l",
    "bun": "r",
}
"""Letters that take the rest of their word, or the next one, for a value."""
NEVER_IN_THE_NEXT_WORD: Final = "i"
"""Of those letters: `perl -i -pe …`."""
CODE_MODULES: Final = _names("timeit pdb code trace profile cProfile doctest runpy idlelib")
"""Python's modules that run what stands behind them, or what they read."""
LONG_CODE_OPTIONS: Final = frozenset({"--eval", "--print", "--command"})
EVALUATE_TEXT: Final = _names(
    "let declare typeset local export readonly test [ unset printf read mapfile readarray complete compgen"
    " bind alias wait"
)
"""Builtins that evaluate a part of an argument: what is in brackets, or a command to be run later."""


def without_version(program: str) -> str:
    """`python3.11` is `python`."""
    return program.rstrip("0123456789.") or program
