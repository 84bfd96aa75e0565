"""Rules for commands: what they hold for, whatever the command looks like."""

import pytest

from agent_runner.approval.command_lines import MAX_LINE_BYTES, parse_line
from agent_runner.approval.shell_rules import find_reason, is_all
from handed_commands import FURTHER_ORDINARY, HANDED_OVER, HIDDEN, UNSEEN
from shell_commands import BYPASSES, ORDINARY, RULES

_SEVERAL_RULES = (*RULES, "curl*", "terraform apply*", "gh pr merge*")


@pytest.mark.parametrize("command", BYPASSES)
def test_each_way_round_a_rule_is_asked_about(command: str) -> None:
    assert find_reason("git push*", command) is not None


@pytest.mark.parametrize("line", HANDED_OVER)
def test_a_command_that_something_else_is_told_to_run_is_asked_about(line: str) -> None:
    for hidden in HIDDEN:
        for rule in _SEVERAL_RULES:
            assert find_reason(rule, line.format(hidden)) is not None, (rule, hidden)
    assert find_reason("git push*", line.format("'git push'")) is not None


@pytest.mark.parametrize("line", UNSEEN)
def test_a_line_that_runs_what_nobody_can_know_is_asked_about(line: str) -> None:
    assert all(find_reason(rule, line) is not None for rule in ("git push*", "kubectl delete*", "terraform*"))
    assert not is_all("*", line)


def test_there_are_enough_ways_round_to_say_something() -> None:
    assert len(set(BYPASSES)) == len(BYPASSES) >= 60
    assert len({*HANDED_OVER, *UNSEEN}) == len(HANDED_OVER) + len(UNSEEN) >= 80


def test_of_ordinary_commands_at_most_one_in_twenty_is_asked_about_needlessly() -> None:
    for lines in (ORDINARY, FURTHER_ORDINARY):
        needless = [line for line in lines if any(find_reason(rule, line) for rule in RULES)]

        assert len(lines) >= 60
        assert len(needless) / len(lines) <= 0.05, needless


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("git push*", "git stash push"),
        ("git push*", "git commit -m 'push it'"),
        ("git push*", "git status && git log --oneline"),
        ("git push*", "/usr/bin/git status"),
        ("git push*", "g'i't status"),
        ("git push*", "git clone https://example.com/git/git.git"),
        ("git push*", "git remote add origin git@example.com:a/b.git"),
        ("rm -rf*", "rm file"),
        ("rm -rf*", "rm -f file"),
        ("rm -rf*", "docker run --rm image"),
        ("kubectl delete pod*", "kubectl get pods"),
        ("rm /etc/*", "rm build/x"),
    ],
)
def test_what_the_rule_does_not_mean_goes_through(rule: str, command: str) -> None:
    assert find_reason(rule, command) is None


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("rm -rf*", "rm -fr x"),
        ("rm -rf*", "rm -r -f x"),
        ("rm -rf*", "rm -Rf x"),
        ("rm -rf*", "rm --recursive --force x"),
        ("rm -rf*", "rm --rec x -f"),
        ("rm -rf*", "rm $x"),
        ("git push --force*", "git push -f"),
        ("git push --force*", "git push origin --force-with-lease"),
        ("kubectl delete pod*", "kubectl -n x delete --now pod a"),
        ("rm /etc/*", "rm -f a /etc/passwd"),
        ("rm /etc/*", 'rm "$x"'),
        ("*", "ls"),
        ("npm*", "npm install"),
        ("./deploy*", "bash -c ./deploy.sh"),
        ("docker*", "sudo docker ps"),
    ],
)
def test_a_rule_holds_for_every_spelling_of_what_it_means(rule: str, command: str) -> None:
    assert find_reason(rule, command) is not None


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("git status", "git status"),
        ("git status*", "git status --short"),
        ("git status *", "git status"),
        ("git *", "git log -1 && git status"),
        ("ls*", "ls -la"),
        ("ls *", "ls 'a b' 2>&1"),
        ("make test", "make test 2>/dev/null"),
        ("npm run *", 'npm run "build"'),
        ("cat *.md", "cat README.md"),
    ],
)
def test_an_allowing_rule_holds_where_every_command_is_literal_and_matches(rule: str, command: str) -> None:
    assert is_all(rule, command)


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("git status", "git status --short"),
        ("git status*", "git status; ls"),
        ("git status*", "git status > file"),
        ("git status*", "git status >> file"),
        ("git status*", "git status &> file"),
        ("git status*", "git status 2> file"),
        ("git status*", "git status < file"),
        ("git status*", "A=1 git status"),
        ("git status*", "git status $x"),
        ("git status*", "git status $(id)"),
        ("git status*", "git status *"),
        ("git status*", "git status ~/x"),
        ("git status*", "git status {a,b}"),
        ("git status*", "./git status"),
        ("git status*", "/tmp/git status"),
        ("git status*", "GIT status"),
        ("git status*", "git -C x status"),
        ("git status*", "(git status)"),
        ("git status*", "git() { rm -rf /; }; git status"),
        ("git status*", "git status <<E\nE"),
        ("git status*", "git status <(id)"),
        ("git status*", "if git status; then git status; fi"),
        ("git status*", "git status '"),
        ("*", 'bash -c "$x"'),
        ("*", "$x"),
        ("env*", "env -S 'rm x'"),
        ("ls*", ""),
        ("ls*", "# ls"),
    ],
)
def test_an_allowing_rule_holds_for_nothing_else(rule: str, command: str) -> None:
    assert not is_all(rule, command)


@pytest.mark.parametrize(
    "piece",
    ["(", "$(", "{ ", "cat <<A\n", "'\"", "`", "a&&", "if ", "case x in ", "a ", "[[ ", "$((", "${x:-", ")\n",
     "a ) ( < > ;; ", "bash -c '", "env ", "eval ", "xargs -a x ", "git -x git ", "a|", "((=", "a.", ",",
     "\">&*`", "=|&", " #", "sed '\n\n", "sed 's1",
     "psql '\n", "sed '/s/", "git -c a=b -c ", "env A=; ", "docker exec a sh -c '", "watch a; ", "tmux (a) ",
     pytest.param("python3 -c 'open" + " " * 30_000, id="spaces")],
)  # fmt: skip
def test_a_hostile_line_takes_bounded_time(piece: str) -> None:
    line = (piece * (MAX_LINE_BYTES // len(piece)))[:MAX_LINE_BYTES]
    # What is not bounded takes more than the five minutes that a test may take.
    find_reason("git push*", line)
    is_all("git *", line)


def test_a_line_that_is_too_long_is_not_understood() -> None:
    assert parse_line("a" * (MAX_LINE_BYTES + 1)).not_understood is not None
    assert find_reason("git push*", "ls " + "a" * MAX_LINE_BYTES) is not None
    assert not is_all("ls*", "ls " + "a" * MAX_LINE_BYTES)


@pytest.mark.parametrize(
    "text",
    ["{\U0010ffff", "{12..34\U0010ffff", "ls {1..\U0010ffff}", "{\\\n\U000eeeee", "ls {\u6f22,\u5b57}"],
)
def test_what_would_end_the_parser_is_asked_about(text: str) -> None:
    assert find_reason("git push*", text) is not None
    assert not is_all("*", text)
