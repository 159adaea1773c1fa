"""A local lane whose operations wait until a test lets them go, and which records each call.

Files in `${ORCHESTRATOR_DATA_DIR}/held` are the signals, so that it works across processes that are killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from orchestrator.lane import Call

PATIENCE = 100.0


def folder() -> Path:
    path = Path(os.environ["ORCHESTRATOR_DATA_DIR"]) / "held"
    path.mkdir(exist_ok=True)
    return path


def calls(operation: str) -> list[str]:
    """The idempotency keys of the calls so far, in order."""
    path = folder() / f"{operation}.calls"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def let_go(operation: str) -> None:
    (folder() / f"{operation}.go").touch()


def wait(operation: str) -> None:
    """Until the test lets it go."""
    deadline = time.monotonic() + PATIENCE
    while not (folder() / f"{operation}.go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the test never let it go")
        time.sleep(0.01)  # between two looks at a condition


def _called(call: Call) -> None:
    with (folder() / f"{call.operation}.calls").open("a", encoding="utf-8") as record:
        record.write(f"{call.key}\n")


def pass_by(call: Call) -> Any:
    _called(call)
    return {"attempt": call.attempt}


def hold(call: Call) -> Any:
    _called(call)
    wait("hold")
    return {"attempt": call.attempt}
