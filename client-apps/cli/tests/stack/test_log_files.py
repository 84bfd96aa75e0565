"""The stack's log files: bounded, merged, followed past a rotation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stack_home import StackHome
from stigmer_cli.stack.log_files import KEPT_FILES, MAX_LINE_BYTES, LineSplitter, LogReader, RotatingLog


def test_a_log_stays_within_its_bounds(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "server.log", max_file_bytes=1000)
    for number in range(500):
        log.write_line(f"line {number}")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) <= 1 + KEPT_FILES
    assert all(path.stat().st_size <= 1100 for path in tmp_path.iterdir())
    texts = [line.text for line in LogReader(tmp_path, ["server"]).kept_lines()]
    assert texts == [f"line {number}" for number in range(500 - len(texts), 500)]


def test_a_follower_misses_nothing_when_the_file_moves_aside(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "server.log", max_file_bytes=1000)
    log.write_line("before")
    reader = LogReader(tmp_path, ["server", "runner"])
    texts = [line.text for line in reader.kept_lines()]
    for number in range(100):
        log.write_line(f"line {number}")
        if number % 7 == 0:
            texts += [line.text for line in reader.new_lines()]
    texts += [line.text for line in reader.new_lines()]
    assert texts == ["before", *(f"line {number}" for number in range(100))]


def test_lines_of_all_components_come_in_the_order_of_time(tmp_path: Path) -> None:
    logs = {name: RotatingLog(tmp_path / f"{name}.log") for name in ("server", "runner")}
    for number in range(10):
        logs["server" if number % 2 else "runner"].write_line(str(number))
    lines = list(LogReader(tmp_path, ["server", "runner"]).kept_lines())
    assert [line.text for line in lines] == [str(number) for number in range(10)]


def test_lines_before_a_time_are_left_out(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "server.log")
    log.write_line("old")
    line = next(LogReader(tmp_path, ["server"]).kept_lines())
    since = datetime.fromisoformat(line.time).astimezone(UTC) + timedelta(microseconds=1)
    log.write_line("new")
    assert [line.text for line in LogReader(tmp_path, ["server"]).kept_lines(since)] == ["new"]


def test_a_line_without_a_time_belongs_to_the_one_before(tmp_path: Path) -> None:
    RotatingLog(tmp_path / "supervisor.log").write_line("first")
    with (tmp_path / "supervisor.log").open("a", encoding="utf-8") as file:
        file.write("Traceback\n")
    first, second = LogReader(tmp_path, ["supervisor"]).kept_lines()
    assert (second.text, second.time) == ("Traceback", first.time)


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    log = RotatingLog(Path("/dev/full"))
    log.write_line("lost")
    assert log.last_lines == ("lost",)


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_lines_are_put_together_from_pieces(cut: int) -> None:
    content = "größe\r\nnext\n\nlast".encode()
    splitter = LineSplitter()
    lines = [line for at in range(0, len(content), cut) for line in splitter.feed(content[at : at + cut])]
    assert lines + splitter.finish() == ["größe", "next", "", "last"]


def test_a_line_without_end_is_cut() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * (MAX_LINE_BYTES + 1)) == ["x" * (MAX_LINE_BYTES + 1)]
    assert splitter.finish() == []


def test_the_command_shows_the_last_lines_of_the_wanted_part(stack_home: StackHome) -> None:
    directory = stack_home.path / "logs"
    directory.mkdir(parents=True)
    for name in ("server", "runner"):
        log = RotatingLog(directory / f"{name}.log")
        for number in range(5):
            log.write_line(f"{name} {number} \x1b[31mred")
    completed = stack_home.stigmer("server", "logs", "--runner", "--tail", "2")
    shown = [line.partition(" ")[2] for line in completed.stdout.splitlines()]
    assert shown == [r"runner     runner 3 \x1b[31mred", r"runner     runner 4 \x1b[31mred"]


def test_neither_the_file_nor_what_is_shown_of_it_steers_a_terminal(stack_home: StackHome) -> None:
    directory = stack_home.path / "logs"
    directory.mkdir(parents=True)
    RotatingLog(directory / "runner.log").write_line("a \x1b[2J\r\x9b\u202eb")
    written = (directory / "runner.log").read_text(encoding="utf-8")
    assert written.partition(" ")[2] == "a \\x1b[2J\\r\\x9b\\u202eb\n"
    # An older version, or another program, may have written it raw.
    (directory / "server.log").write_text("raw \x1b[2J\x9b\u202eb\n", encoding="utf-8")
    for flags in ([], ["--json"]):
        shown = stack_home.stigmer("server", "logs", "--server", *flags).stdout
        assert "raw" in shown
        assert not set("\x1b\x9b\u202e") & set(shown)


def test_a_wrong_time_is_a_wrong_usage(stack_home: StackHome) -> None:
    completed = stack_home.stigmer("server", "logs", "--since", "yesterday")
    assert completed.returncode == 2
    assert completed.stderr == (
        "error: could not read `--since yesterday`: it is neither a duration nor an ISO 8601 time\n"
        "\n"
        "hint: write a duration such as 10m, or a time such as 2026-01-31T09:30\n"
    )
