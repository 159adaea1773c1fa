"""What each verb of a history does, written down from DESIGN and the reference of states; not read from the engine."""

from __future__ import annotations

# verb: the states that it may leave, the one it leads to, the phases that it is for
STEP = {
    "ready": (("",), "READY", "do undo"),
    "claim": (("READY", "RETRYING"), "RUNNING", "do undo"),
    "look": (("READY", "RETRYING"), "RUNNING", "do"),
    "open": (("", "RUNNING"), "RUNNING", "do"),
    "check": (("RUNNING",), "READY", "do"),
    "release": (("RUNNING",), "READY", "do undo"),
    "park": (("RUNNING", "UNKNOWN"), "WAITING", "do undo"),
    "sleep": (("RUNNING",), "WAITING", "do"),
    "delegate": (("RUNNING",), "WAITING", "do undo"),
    "succeed": (("RUNNING",), "SUCCEEDED", "do undo"),
    "resolve": (("READY", "RETRYING", "RUNNING", "UNKNOWN", "WAITING"), "SUCCEEDED", "do undo"),
    "reject": (("READY", "RETRYING", "RUNNING", "UNKNOWN", "WAITING"), "FAILED", "do undo"),
    "elapse": (("RUNNING", "WAITING"), "SUCCEEDED", "do"),
    "retry": (("RUNNING", "WAITING"), "RETRYING", "do undo"),
    "lose": (("RUNNING",), "RETRYING", "do undo"),
    "fail": (("READY", "RETRYING", "RUNNING", "WAITING"), "FAILED", "do undo"),
    "doubt": (("FAILED", "RETRYING", "RUNNING", "SKIPPED", "WAITING"), "UNKNOWN", "do undo"),
    "skip": (("RETRYING", "RUNNING", "WAITING"), "SKIPPED", "do"),
    "escalate": (("RETRYING", "RUNNING", "WAITING"), "READY", "do"),
    "end": (("READY", "RETRYING", "RUNNING", "WAITING"), "SKIPPED", "do"),
    "attest": (("FAILED",), "SUCCEEDED", "undo"),
    "redo": (("UNKNOWN",), "READY", "do undo"),
    "renew": (("COMPENSATED", "FAILED", "SKIPPED", "SUCCEEDED"), "READY", "do undo"),
    "reopen": (("FAILED", "SKIPPED", "SUCCEEDED"), "RUNNING", "do"),
    "undo": (("FAILED", "SKIPPED", "STUCK", "SUCCEEDED"), "COMPENSATING", "do"),
    "compensate": (("COMPENSATING",), "COMPENSATED", "do"),
    "stick": (("COMPENSATING",), "STUCK", "do"),
}  # fmt: skip

# verb of the instance itself: the status that it leads to. From where, `history` says: WAITING and STUCK are not noted.
INSTANCE = {
    "start": "RUNNING", "proceed": "RUNNING", "fall": "COMPENSATING", "drop": "COMPENSATING", "suspend": "SUSPENDED",
    "complete": "COMPLETED", "compensate": "COMPENSATED", "fail": "FAILED", "cancel": "CANCELLED",
    "recall": "COMPENSATING", "restart": "RUNNING",
}  # fmt: skip

CLAIMS = ("claim", "look")
BIRTHS = ("ready", "renew", "reopen")
TERMINAL = ("COMPLETED", "COMPENSATED", "FAILED", "CANCELLED")
ACTIVE = ("READY", "RUNNING", "RETRYING", "WAITING", "UNKNOWN")
OVER = ("SUCCEEDED", "SKIPPED", "FAILED")
KEEPS_ITS_PLACE = ("undo", "compensate", "stick")  # in the order of what was done, although it moves
