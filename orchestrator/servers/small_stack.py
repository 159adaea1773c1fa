"""The stack of `orchestrator run`: the servers that no setting names, one worker, and a web server where one is needed.

All of them are this process's children and end with it, whatever ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.embedded import Prepared, Server, prepare_broker, prepare_postgres
from orchestrator.errors import ServerError
from orchestrator.servers import running_stack
from orchestrator.servers.child import Child, end_group, send, spawn
from orchestrator.servers.data_directory import make
from orchestrator.servers.stack import answers, command, environment, hold_port, with_local_auth
from orchestrator.settings import Settings

STOPS_WITHIN = 5.0  # seconds, then it is killed
WEB_READY_WITHIN = 20.0  # seconds
LOG_TAIL = 1500  # characters


class SmallStack:
    """`settings` say where everything is."""

    def __init__(self, settings: Settings, data_dir: Path, held: ExitStack) -> None:
        self.settings = settings
        self._data_dir, self._held = data_dir, held
        self._upgraded = data_dir.resolve() / "upgraded"
        self._web: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        """It is told to wait: its imports take longer than the servers' start, so that both happen at once."""
        self._upgraded.unlink(missing_ok=True)
        self._worker = self._start("worker", "--after", str(self._upgraded))

    def upgrade(self) -> None:
        """Bring the tables up to date, and let the worker begin."""
        from orchestrator.store.database import upgrade

        assert self.settings.database_url is not None, "it is named or has just been started"
        upgrade(self.settings.database_url)
        self._upgraded.touch()

    def stop_with_worker(self) -> None:
        """From here on the worker is stopped before the servers that have been started since."""
        if self._worker is not None:
            self._held.callback(_stop, self._worker)

    def check(self) -> None:
        """Raises ServerError when the worker has ended: nothing would go on."""
        if self._worker is not None and self._worker.poll() is not None:
            raise ServerError(f"the worker has ended (exit {self._worker.returncode}): {self._log_tail('worker')}")

    def serve(self) -> None:
        """Start the web server unless it runs: callbacks go there. Returns when it answers, or raises ServerError."""
        if self._web is not None:
            return
        self._web = self._start("web", "--passing")
        self._wait_for_web(self._web, answers(f"{self.settings.base_url}/readyz"))

    def _wait_for_web(self, web: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        until = time.monotonic() + WEB_READY_WITHIN
        while not ready():
            if web.poll() is not None or time.monotonic() > until:
                raise ServerError(f"the web server for callbacks does not start: {self._log_tail('web')}")
            time.sleep(0.05)

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment(self.settings)}
        log = self._data_dir / f"{name}.log"
        with log.open("ab") as output:
            process = spawn(Child(name=name, argv=(*command(), name, *options), env=env), output)
        self._held.callback(_stop, process)
        return process

    def _log_tail(self, name: str) -> str:
        log = self._data_dir / f"{name}.log"
        return log.read_text(errors="replace")[-LOG_TAIL:].strip() if log.exists() else f"see {log}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    try:
        send(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPS_WITHIN)
    finally:
        end_group(process.pid)
        process.wait()


@contextmanager
def running(settings: Settings, data_dir: Path, say: Callable[[str], None]) -> Iterator[SmallStack]:
    """Start what is missing, and stop all of it at the end of the block. `say` is told what a person should know.

    To be used in the main thread. A data directory in use is left to whoever has it: a temporary one serves.
    Raises ServerError.
    """
    with ExitStack() as held:
        data_dir, prepared = _prepare(settings, data_dir, held, say)
        running_stack.forget_web(data_dir)
        port = hold_port(settings, None, held)
        settings = with_local_auth(replace(settings, port=port, data_dir=str(data_dir.resolve()), canary=0.0,
                                          stop_within=min(settings.stop_within, STOPS_WITHIN - 1)))  # fmt: skip
        urls = {server: one.url for server, one in prepared.items()}
        settings = replace(
            settings,
            database_url=urls.get("postgres", settings.database_url),
            broker_url=urls.get("broker", settings.broker_url),
        )
        stack = SmallStack(settings, data_dir, held)
        stack.start_worker()
        for one in prepared.values():
            held.enter_context(Server(one))
        stack.stop_with_worker()
        stack.upgrade()
        yield stack


def _prepare(
    settings: Settings, data_dir: Path, held: ExitStack, say: Callable[[str], None]
) -> tuple[Path, dict[str, Prepared]]:
    if not running_stack.is_in_use(data_dir):
        try:
            make(data_dir)
            return data_dir, _servers(settings, data_dir)
        except ServerError:
            if not running_stack.is_in_use(data_dir):  # another one was quicker
                raise
    say(f"{data_dir} is in use by another stack: this run has a temporary data directory, removed at its end")
    temporary = Path(tempfile.mkdtemp(prefix="orchestrator-run-"))
    held.callback(shutil.rmtree, temporary, ignore_errors=True)
    temporary.chmod(0o711)  # Postgres may have to run as another user
    return temporary, _servers(settings, temporary)


def _servers(settings: Settings, data_dir: Path) -> dict[str, Prepared]:
    """The servers that no setting names, by name."""
    prepared: dict[str, Prepared] = {}
    try:
        if settings.database_url is None:
            prepared["postgres"] = prepare_postgres(data_dir)
        if settings.broker_url is None:
            prepared["broker"] = prepare_broker(data_dir)
    except BaseException:
        for one in prepared.values():
            one.claim.release()
        raise
    return prepared
