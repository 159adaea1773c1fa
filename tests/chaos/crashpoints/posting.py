"""How those who are not the engine reach the service: unseen by the spy, which watches the engine's own connections."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.error import HTTPError

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PATIENCE = 20.0  # seconds; nothing is timed by it


def post(service: str, lane: str, operation: str, key: str, body: Any) -> None:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    content = json.dumps(body).encode()
    request = urllib.request.Request(f"{service}/{lane}/{operation}", method="POST", data=content, headers=headers)
    with OPENER.open(request, timeout=PATIENCE) as reply:
        reply.read()


def is_known(service: str, key: str) -> bool:
    """Whether the service's books have an effect by this key."""
    try:
        with OPENER.open(f"{service}/blind/look/{key}", timeout=PATIENCE) as reply:
            return bool(reply.status == 200)
    except HTTPError as error:
        error.close()
        return False
