"""fileSvc: keeps the documents that an application names, in a folder an instance."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import folder, member, write_once

FILE_NAME = re.compile(r"[\w][\w .()+-]{0,120}")


def upload(call: Call) -> Any:
    """{result: {stored: [name, …]}}. `documents` are names, or {name, content} with the text itself."""
    documents = member(call, "documents")
    if documents is None:
        documents = []
    if not isinstance(documents, list):
        raise Rejected("`documents` must be a list of names, or of {name, content}")
    papers = [_paper(document) for document in documents]  # all are checked before one is stored
    place = folder("files", call.tenant, call.trace)
    for name, content in papers:
        write_once(place / name, content)
    return {"result": {"stored": [name for name, _ in papers]}}


def _paper(document: Any) -> tuple[str, str]:
    name = document.get("name") if isinstance(document, dict) else document
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise Rejected(f"{name!r} is not a file name: letters, digits, spaces and . ( ) + - are")
    content = document.get("content", "") if isinstance(document, dict) else ""
    return name, content if isinstance(content, str) else json.dumps(content)
