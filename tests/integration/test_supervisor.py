from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.servers import embedded_postgres
from tests import servers
from tests.processes import gone, wait_until

pytestmark = pytest.mark.integration

# A stand-in child: says who it is, notes its process id and starts what it is told to.
STAND_IN = """
import os, pathlib, signal, subprocess, sys, time
name, folder, *grandchild = sys.argv[1:]
folder = pathlib.Path(folder)
def note(who, process):
    (folder / f"{who}.new").write_text(str(process))
    (folder / f"{who}.new").rename(folder / who)
def stop(*_):
    with (folder / "stopped").open("a") as file:
        file.write(name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in name else stop)
if "leaver" in grandchild:
    note("grandchild", subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
elif grandchild:
    note("grandchild", subprocess.Popen(["sleep", "300"]).pid)
note(name, os.getpid())
print(name, "speaks", flush=True)
time.sleep(300)
"""
SUPERVISOR = """
import functools, os, pathlib, sys
from orchestrator.servers.child import Child
from orchestrator.supervisor import supervise
folder = pathlib.Path(sys.argv[1])
def servers():
    from orchestrator import embedded
    prepared = [embedded.prepare_postgres(folder, durable=False), embedded.prepare_broker(folder)]
    (folder / "url").write_text(prepared[0].url)
    claims.extend(server.claim for server in prepared)
    return [server.child for server in prepared]
claims = []
def stand_in(name, *more, **how):
    argv = (sys.executable, "-c", pathlib.Path(sys.argv[2]).read_text(), name, str(folder), *more)
    return Child(name=name, argv=argv, ready=lambda: (folder / name).exists(), **how)
def program(name, source, **how):
    return Child(name=name, argv=(sys.executable, "-c", source), **how)
sys.exit(supervise([{children}], stop_after={stop_after}, announce="all ready"))
"""


class Stack:
    """A supervisor in a process of its own, with what it prints and the processes that its children noted."""

    def __init__(self, folder: Path, children: str, stop_after: float) -> None:
        self.folder = folder
        (folder / "stand_in.py").write_text(STAND_IN)
        source = SUPERVISOR.format(children=children, stop_after=stop_after)
        command = [sys.executable, "-c", source, str(folder), str(folder / "stand_in.py")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def says(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.lines))

    def pid(self, name: str) -> int:
        wait_until((self.folder / name).exists)
        return int((self.folder / name).read_text())

    def next_pid(self, name: str, old: int) -> int:
        wait_until(lambda: self.pid(name) != old)
        return self.pid(name)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(15)
        self._reader.join()
        return code

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def stack(folder: Path, children: str, *, stop_after: float = 12) -> Iterator[Stack]:
    running = Stack(folder, children, stop_after)
    try:
        yield running
    finally:
        running.clean_up()


@contextmanager
def heard(number: signal.Signals) -> Iterator[None]:
    """Whoever starts the tests by nohup has it ignored, and then so has whoever we start."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_alone_stops_every_descendant(tmp_path: Path, number: signal.Signals) -> None:
    with heard(number), stack(tmp_path, 'stand_in("one"), stand_in("two", "grandchild")') as running:
        running.says("all ready")
        processes = [running.pid(name) for name in ("one", "two", "grandchild")]
        assert running.stop(number) == 0
        assert all(gone(process) for process in processes)


def test_an_interrupt_is_obeyed_in_a_scripts_background(tmp_path: Path) -> None:
    """There the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stack(tmp_path, 'stand_in("one")') as running:
            running.says("all ready")
            assert running.stop(signal.SIGINT) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one"), stand_in("two")') as running:
        running.says("all ready")
        one, two = running.pid("one"), running.pid("two")
        os.kill(two, signal.SIGKILL)
        assert not gone(running.next_pid("two", two))
        assert running.pid("one") == one
        running.says("two was ended by SIGKILL; it is started again in")


def test_the_children_go_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one"), stand_in("deaf")') as running:
        running.says("all ready")
        processes = [running.pid("one"), running.pid("deaf")]
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: all(gone(process) for process in processes))


def test_a_child_that_does_not_stop_is_killed_in_time(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one"), stand_in("deaf")', stop_after=1) as running:
        running.says("all ready")
        deaf = running.pid("deaf")
        assert running.stop() == 0
        assert gone(deaf)
        assert any("deaf did not stop in time" in line for line in running.lines)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who was started below us")
def test_a_grandchild_that_left_its_session_is_stopped_too(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one", "leaver")') as running:
        running.says("all ready")
        grandchild = running.pid("grandchild")
        assert running.stop() == 0
        assert gone(grandchild)


def test_the_grandchildren_of_a_killed_child_do_not_stay_in_its_successors_way(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one", "grandchild")') as running:
        running.says("all ready")
        one, grandchild = running.pid("one"), running.pid("grandchild")
        os.kill(one, signal.SIGKILL)
        running.next_pid("one", one)
        assert gone(grandchild)


def test_children_that_others_need_are_stopped_after_them(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("server", needed=True), stand_in("client")') as running:
        running.says("all ready")
        assert running.stop() == 0
    assert (tmp_path / "stopped").read_text().split() == ["client", "server"]


def test_a_killed_postgres_comes_back_where_it_was_and_goes_with_the_stack() -> None:
    with servers.data_directory() as folder, stack(folder, "*servers()") as running:
        running.says("all ready")
        url = (folder / "url").read_text()
        server = embedded_postgres.holder(cluster_of(folder) / "postmaster.pid")
        assert server is not None
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: gone(server))
        wait_until(lambda: embedded_postgres.answers(url))
        assert running.stop() == 0
        assert not embedded_postgres.answers(url)
        assert not (cluster_of(folder) / "postmaster.pid").exists()  # a clean shutdown removes it


def cluster_of(folder: Path) -> Path:
    return embedded_postgres.place(folder, embedded_postgres.service_user()) / "postgres"


def test_a_child_is_started_when_the_one_before_it_is_ready(tmp_path: Path) -> None:
    check = "import sys, os; sys.exit(0 if os.path.exists(sys.argv[1]) else 7)"
    children = f'stand_in("one"), Child(name="check", argv=(sys.executable, "-c", {check!r}, str(folder / "one")),'
    with stack(tmp_path, children + " restart=False)") as running:
        running.says("all ready")
        assert running.stop() == 0


def test_nothing_follows_a_child_that_runs_once_and_fails(tmp_path: Path) -> None:
    with stack(
        tmp_path, 'stand_in("one"), program("check", "import sys; sys.exit(7)", restart=False), stand_in("two")'
    ) as running:
        assert running.ended() == 1
        assert gone(running.pid("one"))
        assert any("check ended with 7: see its lines above" in line for line in running.lines)
    assert not (tmp_path / "two").exists()


def test_lines_come_out_whole_behind_the_name_of_who_said_them(tmp_path: Path) -> None:
    with stack(tmp_path, 'stand_in("one"), program("halves", "print(1, end=chr(32)); print(2)", restart=False)') as run:
        run.says("all ready")
        assert "one        | one speaks" in run.lines
        assert "halves     | 1 2" in run.lines


def test_a_reader_that_stops_reading_does_not_stop_the_supervisor(tmp_path: Path) -> None:
    """The pipe fills within a second; the child must come back and the stack must stop all the same."""
    chatter = "while True: print(chr(120) * 1000)"
    source = SUPERVISOR.format(children=f'stand_in("one"), program("chatter", {chatter!r})', stop_after=5)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    command = [sys.executable, "-c", source, str(tmp_path), str(tmp_path / "stand_in.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        wait_until((tmp_path / "one").exists)
        one = int((tmp_path / "one").read_text())
        os.kill(one, signal.SIGKILL)
        wait_until(lambda: int((tmp_path / "one").read_text()) != one)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
