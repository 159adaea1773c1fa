"""How one history entry reads on the console: `START`, `DONE`, `FAIL message` … Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line(entry: Mapping[str, Any], callback_url: str | None = None) -> str | None:
    """The text after `[trace] `; None for a transition that nobody needs to read about.

    `entry` has the columns of the history table. `callback_url` is where a waiting step's answer goes.
    """
    said = _instance(entry) if entry["step"] is None else _step(entry, callback_url)
    if said is None:
        return None
    return f"{entry['step']} {said}" if entry["step"] else said


def _instance(entry: Mapping[str, Any]) -> str:
    reason = entry["reason"]
    return f"{entry['verb'].upper()} {entry['status']}" + (f" ({reason})" if reason else "")


def _step(entry: Mapping[str, Any], callback_url: str | None) -> str | None:
    return _undo(entry) if entry["phase"] == "undo" else _do(entry, callback_url)


def _do(entry: Mapping[str, Any], callback_url: str | None) -> str | None:
    verb, error = entry["verb"], entry["error"] or entry["reason"] or ""
    match verb:
        case "claim":
            return "START" if entry["attempt"] == 1 else f"START attempt {entry['attempt']}"
        case "succeed" | "resolve":
            return "DONE"
        case "fail" | "reject":
            return f"FAIL {error}".rstrip()
        case "retry" | "lose":
            return f"RETRY {error}".rstrip()
        case "skip":
            return "SKIP" if entry["reason"] == "condition" else f"SKIP {entry['reason']}"
        case "park":
            return f"WAIT {callback_url}" if callback_url else "WAIT"
        case "escalate":
            return f"ESCALATE {entry['service']}"
        case "doubt":
            return f"UNKNOWN {error}"
        case "stick":
            return "STUCK its compensation failed"
        case _:
            return None


def _undo(entry: Mapping[str, Any]) -> str | None:
    error = entry["error"] or entry["reason"] or ""
    match entry["verb"]:
        case "claim":
            return f"COMPENSATE {entry['service']}"
        case "succeed" | "resolve":
            return f"COMPENSATED {entry['service']}"
        case "fail" | "reject":
            return f"FAIL {entry['service']}: {error}"
        case "retry" | "lose":
            return f"RETRY {entry['service']}: {error}"
        case "doubt":
            return f"UNKNOWN {entry['service']}: {error}"
        case "park":
            return f"WAIT {entry['service']}"
        case _:
            return None
