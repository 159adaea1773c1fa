"""JSON text → data with positions. `json` itself forgets where things stand and lets a later duplicate key win."""

from __future__ import annotations

import json
import math
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in all but the stubs
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]
Found: TypeAlias = tuple[Position, str, str | None]  # where, what is wrong, how to mend it

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
NUL = ("a NUL character cannot be kept by Postgres", "leave it out")
WORDS = {"true": True, "false": False, "null": None}


def looks_like_json(text: str, file: str | None) -> bool:
    """By its name; else by whether it is: YAML's `{id: x}` begins like JSON and is none."""
    if file is not None and file.lower().endswith(".json"):
        return True
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def position(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def compose(
    text: str, *, max_depth: int, max_nodes: int
) -> tuple[Any, dict[Path, Position], dict[Path, Position], list[Found]]:
    """The data, where values and keys stand, and what is wrong (a syntax error ends the reading)."""
    reader = _Json(text, max_depth, max_nodes)
    data = None
    try:
        data = reader.document()
    except _JsonError as error:
        reader.found(error.offset, f"not valid JSON: {error}", error.hint)
    return data, reader.values, reader.keys, reader.problems


class _JsonError(Exception):
    """The text cannot be read beyond this offset."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.offset, self.hint = offset, hint


class _Json:
    def __init__(self, text: str, max_depth: int, max_nodes: int) -> None:
        self.text, self.max_depth, self.max_nodes = text, max_depth, max_nodes
        self.offset = 0
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}
        self.problems: list[Found] = []
        self.breaks = [match.start() for match in re.finditer("\n", text)]

    def found(self, offset: int, message: str, hint: str | None = None) -> None:
        self.problems.append((position(self.text, offset), message, hint))

    def document(self) -> Any:
        data = self.value(())
        if self.peek():
            raise _JsonError("there is more text after the end", self.offset)
        return data

    def peek(self) -> str:
        """The next character that is not space; nothing at the end."""
        self.offset = SPACE.match(self.text, self.offset).end()  # type: ignore[union-attr]  # it matches nothing, too
        return self.text[self.offset : self.offset + 1]

    def value(self, path: Path) -> Any:
        first = self.peek()
        self.values[path] = self.here()
        if len(path) > self.max_depth or len(self.values) > self.max_nodes:
            raise _JsonError(f"more than {self.max_depth} levels or {self.max_nodes} values", self.offset)
        if first == "{":
            return self.object(path)
        if first == "[":
            return self.array(path)
        return self.string() if first == '"' else self.scalar()

    def here(self) -> Position:
        # bisect: counting line breaks from the start would make long texts quadratic
        low, high = 0, len(self.breaks)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.breaks[middle] < self.offset else (low, middle)
        return low + 1, self.offset - (self.breaks[low - 1] if low else -1)

    def string(self) -> str:
        start = self.offset
        try:
            value: str
            value, self.offset = scanstring(self.text, start + 1, True)
        except json.JSONDecodeError as error:
            raise _JsonError(error.msg, error.pos) from error
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.found(start, "half of a surrogate pair is not a character")
        if "\0" in value:
            self.found(start, NUL[0])
        return value

    def scalar(self) -> Any:
        for word, value in WORDS.items():
            if self.text.startswith(word, self.offset):
                self.offset += len(word)
                return value
        match = NUMBER.match(self.text, self.offset)
        if not match:
            raise _JsonError(*self.unexpected())
        start, self.offset = self.offset, match.end()
        return self.number(match, start)

    def number(self, match: re.Match[str], start: int) -> int | float:
        if not (match[1] or match[2]) and len(match[0]) <= 20:
            whole = int(match[0])
            if -(2**63) <= whole < 2**63:
                return whole
        value = float(match[0])
        if math.isinf(value) or not (match[1] or match[2]):
            self.found(start, f"`{match[0][:24]}` is too large a number", "write it in quotes")
        return value

    def unexpected(self) -> tuple[str, int, str | None]:
        character = self.text[self.offset : self.offset + 1]
        if not character:
            return "the text ends too early", self.offset, "a bracket or a quote is not closed"
        hint = "remove the comma before it" if character in "]}" else 'text stands in double quotes: "…"'
        return f"`{character}` is not expected here", self.offset, hint

    def array(self, path: Path) -> list[Any]:
        items: list[Any] = []
        self.offset += 1
        if self.peek() == "]":
            self.offset += 1
            return items
        while True:
            items.append(self.value((*path, len(items))))
            if self.ends("]"):
                return items

    def object(self, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        self.offset += 1
        if self.peek() == "}":
            self.offset += 1
            return items
        while True:
            self.member(path, items)
            if self.ends("}"):
                return items

    def member(self, path: Path, items: dict[str, Any]) -> None:
        if self.peek() != '"':
            raise _JsonError(*self.unexpected())
        start, at = self.offset, self.here()
        key = self.string()
        if self.peek() != ":":
            raise _JsonError(f'"{key}" must be followed by a colon', self.offset)
        self.offset += 1
        if key in items:
            self.found(start, f"duplicate key `{key}`", "remove one of the two")
            self.value((*path, f"{key}\0{start}"))
            return
        self.keys[*path, key] = at
        items[key] = self.value((*path, key))

    def ends(self, closing: str) -> bool:
        separator = self.peek()
        if separator not in (",", closing):
            raise _JsonError(f"a `,` or `{closing}` is expected", self.offset)
        self.offset += 1
        return separator == closing
