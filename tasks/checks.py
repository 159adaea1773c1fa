"""What the two offices share that only look at the documents of an application."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from tasks.ledger import member


def look_for(call: Call, *wanted: str) -> Any:
    """{result: {complete, missing: [kind, …]}}: a document is of a kind that its name begins with."""
    documents = member(call, "documents")
    names = [_name(document) for document in documents] if isinstance(documents, list) else []
    missing = [kind for kind in wanted if not any(name.startswith(kind) for name in names)]
    return {"result": {"complete": not missing, "missing": missing}}


def _name(document: Any) -> str:
    return str(document.get("name", "") if isinstance(document, dict) else document)
