"""How one history entry reads on the console: `START`, `DONE`, `FAIL message` … Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator import states

# By verb; a transition that is not here is nothing that anybody has to read about.
STEP = {
    "claim": "START{again}", "open": "START", "reopen": "START", "succeed": "DONE", "resolve": "DONE",
    "fail": "FAIL {error}", "reject": "FAIL {error}", "retry": "RETRY {error}", "lose": "RETRY {error}",
    "skip": "SKIP{why}", "park": "WAIT {url}", "sleep": "WAIT until {until}", "delegate": "WAIT {child}", "elapse": "DONE",
    "escalate": "ESCALATE {service}", "doubt": "UNKNOWN {error}", "stick": "STUCK its compensation failed",
}  # fmt: skip
COMPENSATION = {
    "claim": "COMPENSATE {service}", "attest": "COMPENSATED {service}", "succeed": "COMPENSATED {service}", "resolve": "COMPENSATED {service}",
    "fail": "FAIL {service}: {error}", "reject": "FAIL {service}: {error}", "retry": "RETRY {service}: {error}",
    "lose": "RETRY {service}: {error}", "doubt": "UNKNOWN {service}: {error}", "park": "WAIT {url}", "delegate": "WAIT {child}",
}  # fmt: skip


def line(entry: Mapping[str, Any], callback_url: str | None = None) -> str | None:
    """The text after `[trace] `; None for a transition that nobody needs to read about.

    `entry` has the columns of the history table. `callback_url` is where a waiting step's answer goes.
    """
    if entry["step"] is None:
        reason = f" ({entry['reason']})" if entry["reason"] else ""
        return f"{entry['verb'].upper()} {entry['status']}{reason}"
    form = (COMPENSATION if entry["phase"] == "undo" else STEP).get(entry["verb"])
    if form is None or _is_told_already(entry):
        return None
    said = form.format(
        again="" if entry["attempt"] == 1 else f" attempt {entry['attempt']}",
        error=entry["error"] or entry["reason"] or "",
        service=entry["service"] or "its sub-workflow",
        until=_told(entry, "until"),
        child=f"sub-workflow {_told(entry, 'instanceId')}",
        url=callback_url or "",
        why="" if entry["reason"] == "condition" else f" {entry['reason']}",
    )
    return f"{entry['step']} {said}".rstrip()


def _told(entry: Mapping[str, Any], name: str) -> str:
    told = entry.get("output", entry.get("result"))
    return str(told.get(name, "")) if isinstance(told, dict) else ""


def _is_told_already(entry: Mapping[str, Any]) -> bool:
    """A block with a condition was claimed before it was opened, and that read START; another one is never claimed."""
    return entry["verb"] == "open" and bool(entry["attempt"])


def level(entry: Mapping[str, Any]) -> str:
    """The log level of a transition: ERROR where somebody has to look, WARNING where something went another way."""
    if entry["status"] in (states.FAILED, states.UNKNOWN, states.STUCK):
        return "ERROR"
    return "WARNING" if entry["verb"] in ("retry", "lose", "escalate", "fall") else "INFO"
