"""Inboxes of people: a paper that holds the callback URL by which the officer decides."""

from __future__ import annotations

import json

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import folder, plain, write_once


def put(call: Call, officer: str) -> None:
    """Put the call into an officer's inbox, once per key: {trace, step, callbackUrl, payload, input}."""
    if not call.callback_url:
        raise Rejected(f"{officer} has no way to answer: the call carries no callback URL")
    paper = {
        "trace": call.trace,
        "step": call.step,
        "callbackUrl": call.callback_url,
        "payload": call.payload,
        "input": call.input,
    }
    place = folder("inbox", call.tenant, officer)
    write_once(place / f"{plain(call.key)}.json", json.dumps(paper, indent=2) + "\n")
