"""Reading request bodies strictly: what is accepted here can be stored by Postgres and sent to a lane."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from flask import Request, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from orchestrator.errors import BadRequest, TooLarge

MAX_DEPTH = 100  # containers inside each other
ENVELOPE = 10_000  # bytes around a payload: the workflow's id, a comment


class StrictRequest(Request):
    """Flask's request, but its JSON is strict: `silent` is ignored, so that an unreadable body is said to be so."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002 - Flask's signature
        """Raises UnsupportedMediaType, TooLarge and BadRequest, whatever is asked."""
        if not force and not self.is_json:
            raise UnsupportedMediaType("Send JSON, with the header `Content-Type: application/json`.")
        value = parse_json(body_text(self))
        if not isinstance(value, dict):
            raise BadRequest("The body is not a JSON object: send {…}.")
        return value


def body_text(request: Request, limit: int | None = None) -> str:
    """The body as UTF-8 text. `limit` in bytes, of a definition; none: the application's. Raises TooLarge, BadRequest."""
    most = limit or current_app.config["MAX_CONTENT_LENGTH"]
    # One more than may be: werkzeug cuts a chunked body at its limit in silence, and half a definition may be valid.
    request.max_content_length = most + 1
    try:
        data = request.get_data(parse_form_data=False)
        if len(data) <= most:
            return data.decode()
    except RequestEntityTooLarge:
        pass
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 text: byte {error.start} cannot be read.") from error
    setting = "ORCHESTRATOR_MAX_DEFINITION" if limit else "ORCHESTRATOR_MAX_PAYLOAD"
    raise TooLarge(f"The body is larger than {most} bytes: send less, or have {setting} raised.")


def parse_json(text: str) -> Any:
    """Raises BadRequest for what is not JSON, is too deep, or cannot be stored (NaN, NUL, lone surrogates)."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    except ValueError as error:  # Python reads integers of up to 4300 digits
        raise BadRequest("The body has a number with thousands of digits; send it as a string.") from error
    _check(value)
    return value


def check_text(text: str) -> None:
    """Raises BadRequest for text that Postgres cannot hold."""
    if "\x00" in text:
        raise BadRequest("The request has a NUL character (\\u0000), which cannot be stored; remove it.")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequest("The request has half of a surrogate pair (\\ud800 to \\udfff); send whole characters.")


def refuse_unstorable_address() -> None:
    """Before every request: a NUL in the path or the query would fail deep in the database."""
    for text in (request.path, *request.args.values()):
        check_text(text)


def _check(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise _too_deep()


def _children(item: Any) -> list[Any]:
    if isinstance(item, str):
        check_text(item)
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, list) else []


def _too_deep() -> BadRequest:
    return BadRequest(f"The body has more than {MAX_DEPTH} lists and objects inside each other; flatten it.")


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"{name} is not JSON: send null, or a string.")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRequest(f"The number {text} is too large; send it as a string.")
    return value
