"""Follows a page of the documents as somebody would who types what it says, and compares what is printed."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.servers.ports import free_port
from tests import servers
from tests.processes import wait_until

BLOCK = re.compile(r"(?P<before>(?:[^\n]+\n)*)\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```", re.MULTILINE)
FILE = re.compile(r"[Ww]rite\s+`([\w./-]+)`")
ID = re.compile(r"\b[0-9a-f]{32}\b")
READY_WITHIN = 60.0
SHOWN_WITHIN = 20.0  # seconds in which a look at an instance has to show what the page shows
INSTALLS = "pip install"  # done already where this runs; a wheel has tests of its own


@dataclass(frozen=True, kw_only=True)
class Command:
    line: str
    shown: str  # what the page says that it prints


def commands(text: str) -> list[Command]:
    """The `$ …` lines of a block, each with what follows it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [Command(line=line, shown=shown) for line, _, shown in (part.partition("\n") for part in parts)]


def pattern(shown: str) -> re.Pattern[str]:
    """What is printed, with anything for `…`, and an id and a time of its own."""
    anything = {"…": ".*", "ID": "[0-9a-f]{32}", "TIME": r"\d+\.\d+ ?s"}
    marked = re.sub(r"\b\d+\.\d+ ?s\b", "\0TIME\0", ID.sub("\0ID\0", shown.strip()))
    pieces = re.split(r"(…|\0ID\0|\0TIME\0)", marked)
    text = "".join(anything.get(piece.strip("\0")) or re.escape(piece) for piece in pieces)
    return re.compile(text, re.DOTALL)


@dataclass
class Newcomer:
    """Somebody who types what the page says, in a folder of their own."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, str]
    last_id: str = ""
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow_files(self, page: str) -> None:
        """Only write what the page has written."""
        for block in BLOCK.finditer(page):
            self._write(block["before"], block["text"])

    def follow(self, page: str) -> None:
        for old, new in self.ports.items():
            page = page.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}").replace(
                f'"127.0.0.1", {old}', f'"127.0.0.1", {new}'
            )
        assert len(BLOCK.findall(page)) == len(FENCE.findall(page)) / 2, "a block was overlooked"
        for block in BLOCK.finditer(page):
            self._do(block["before"], block["kind"], block["text"])

    def _do(self, before: str, kind: str, text: str) -> None:
        if self._write(before, text) or INSTALLS in text:
            return
        if "a terminal of its own" in before:
            self._keep_running(commands(text)[0])
        else:
            assert kind == "console", f"nobody says what becomes of the block after {before!r}"
            for command in commands(text):
                self._type(command)

    def _write(self, before: str, text: str) -> bool:
        named = FILE.search(before)
        if named:
            path = self.folder / named[1]
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return named is not None

    def _keep_running(self, command: Command) -> None:
        process = subprocess.Popen(
            shlex.split(command.line), cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.append(process)
        said: list[str] = []
        threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True).start()
        wait_until(lambda: bool(pattern(command.shown).search("".join(said))), within=READY_WITHIN)

    def _type(self, command: Command) -> None:
        line = ID.sub(self.last_id, command.line) if "# yours" in command.line else command.line
        if line.startswith("ID="):
            self.environment["ID"] = self.last_id
            return
        printed: list[str] = []
        looks = line.startswith(("orchestrator status", "orchestrator logs"))

        def as_shown() -> bool:
            printed.append(self._run(line))
            found = pattern(command.shown).fullmatch(printed[-1].strip()) is not None
            assert found or looks, f"$ {line}\n{printed[-1]}\nthe page shows\n{command.shown}"
            return found

        try:
            wait_until(as_shown, within=SHOWN_WITHIN)
        except AssertionError as error:
            raise AssertionError(f"$ {line}\n{printed[-1]}\nthe page shows\n{command.shown}") from error

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if found := ID.findall(done.stdout):
            self.last_id = found[-1]
        return done.stdout

    def stop(self) -> None:
        for process in reversed(self.running):
            process.send_signal(signal.SIGINT)
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def newcomer() -> Iterator[Newcomer]:
    """In an empty folder, with the environment of somebody who has set nothing."""
    service, web = str(free_port()), str(free_port())
    # Users' own `PYTHONPATH` and settings are not a newcomer's; the port is what they would have to choose here.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    with servers.data_directory() as folder:
        person = Newcomer(
            folder=folder,
            environment=kept | {"PATH": path, "PWD": str(folder), "ORCHESTRATOR_PORT": web, "NO_PROXY": "*"},
            ports={"9000": service, "8080": web},
        )
        try:
            yield person
        finally:
            person.stop()
