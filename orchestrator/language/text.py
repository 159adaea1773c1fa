"""YAML or JSON text → plain JSON-like data that knows where each of its parts stands.

Only what YAML and JSON agree on is accepted: what YAML 1.1 would silently turn into something
else (`no`, `1:30`, `0123`, anchors, tags, merge keys, duplicate keys) is refused with a mend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from orchestrator.errors import Invalid, Problem
from orchestrator.language import text_json

Path: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]  # line and column, both from 1

LIMIT = 256_000  # bytes
MAX_DEPTH = 64  # libyaml's composer recurses in C: thousands of levels would end the process
MAX_NODES = 50_000

RUN_TOGETHER = re.compile(r"^(\s*)-\s+(\w+):\s+([^\s\"'#\[{][^\s#]*)\s+((?:\w+:\s+\S+\s*)+)$")
UNCLEAR_BOOL = re.compile(r"yes|no|on|off", re.IGNORECASE)
UNCLEAR_NUMBER = re.compile(r"[-+]?(?:0\d+|0[xob]\w+|\d[\d_]*_[\d_]*(?:\.\d*)?)")
SEXAGESIMAL = re.compile(r"[-+]?\d+(?::[0-5]?\d)+(?:\.\d*)?")
NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
INT = re.compile(r"[-+]?\d+")
FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?")
WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Composed:
    """`data` as `json.loads` would give it, and the positions of its values and keys."""

    data: Any
    file: str | None = None
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)

    def where(self, path: Path) -> Position:
        """Where the value at `path` stands; of a path that is not in the text, its nearest parent."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))

    def key(self, path: Path) -> Position:
        """Where the key of the value at `path` stands; a list's element has none: where it begins."""
        return self.keys.get(path) or self.where(path)

    def data_at(self, path: Path) -> Any:
        """The value at `path`; none where the text has nothing there."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(self, path: Path, message: str, hint: str | None = None, *, at_key: bool = False) -> Problem:
        line, column = self.key(path) if at_key else self.where(path)
        return Problem(message=message, file=self.file, line=line, column=column, hint=hint)


def compose(text: str, *, file: str | None = None, limit: int = LIMIT) -> Composed:
    """Read YAML or JSON. Raises Invalid with every problem found; `limit` is in bytes of UTF-8."""
    _check_size(text, file, limit)
    text = text.removeprefix("\ufeff")
    if text_json.looks_like_json(text, file):
        data, values, keys, problems = text_json.compose(text, max_depth=MAX_DEPTH, max_nodes=MAX_NODES)
    else:
        data, values, keys, problems = _Yaml(text).compose()
    if problems:
        raise Invalid(
            [
                Problem(message=message, file=file, line=position[0], column=position[1], hint=hint)
                for position, message, hint in sorted(problems, key=lambda problem: problem[0])
            ]
        )
    return Composed(data=data, file=file, values=values, keys=keys)


def _check_size(text: str, file: str | None, limit: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line, column = text_json.position(text, error.start)
        problem = Problem(message="half of a surrogate pair is not a character", file=file, line=line, column=column)
        raise Invalid([problem]) from error
    if size > limit:
        raise Invalid(
            [
                Problem(
                    message=f"the text has {size} bytes; at most {limit} are read",
                    file=file,
                    line=1,
                    column=1,
                    hint="split it into several workflows",
                )
            ]
        )


class _Yaml:
    """One pass over the parser's events: they come one by one, so depth and size are known before memory is spent."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}
        self.problems: list[tuple[Position, str, str | None]] = []

    def compose(self) -> tuple[Any, dict[Path, Position], dict[Path, Position], list[tuple[Position, str, str | None]]]:
        data = None
        try:
            data = self._document(self._events())
        except _StopError:
            pass
        except yaml.YAMLError as error:
            self._syntax(error)
        return data, self.values, self.keys, self.problems

    def _events(self) -> Iterator[Any]:
        depth = 0
        for count, event in enumerate(yaml.parse(self.text, Loader=yaml.CSafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                self._stop(_at(event), f"nested deeper than {MAX_DEPTH} levels", "flatten it")
            if count > MAX_NODES:
                self._stop(_at(event), f"more than {MAX_NODES} values", "split it into several workflows")
            yield event

    def _document(self, events: Iterator[Any]) -> Any:
        next(events)  # the stream's start
        if isinstance(next(events), yaml.StreamEndEvent):
            self._stop((1, 1), "the text is empty", None)
        data = self._value(next(events), events, ())
        next(events)  # the document's end
        following = next(events)
        if isinstance(following, yaml.DocumentStartEvent):
            self._add(_at(following), "a second document begins here", "one file holds one document: remove the `---`")
        return data

    def _value(self, event: Any, events: Iterator[Any], path: Path) -> Any:
        self.values[path] = _at(event)
        self._refuse_extras(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path)
        return self._scalar(event) if isinstance(event, yaml.ScalarEvent) else None

    def _sequence(self, events: Iterator[Any], path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(event, events, (*path, len(items))))
        return items

    def _mapping(self, events: Iterator[Any], path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, events, items)
            inner = (*path, key)
            if key not in items:
                self.keys[inner] = _at(event)
                items[key] = self._value(next(events), events, inner)
            else:  # reported; the first one keeps its place
                self._value(next(events), events, (*path, f"{key}\0{len(self.problems)}"))
        return items

    def _key(self, event: Any, events: Iterator[Any], seen: dict[str, Any]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._value(event, events, ("\0key",))
            self._add(_at(event), "a key must be text", None)
            return f"\0{_at(event)}"
        self._refuse_extras(event)
        key: str = event.value
        if event.implicit[0] and key == "<<":
            self._add(_at(event), "merge keys (`<<`) are not allowed", "write the keys out")
        elif event.implicit[0] and not isinstance(self._scalar(event), str):
            self._add(_at(event), f"the key `{key}` is not text", f'write it in quotes: "{key}"')
        if key in seen:
            self._add(_at(event), f"duplicate key `{key}`", "remove one of the two")
        return key

    def _scalar(self, event: Any) -> Any:
        if not event.implicit[0]:  # quoted or a block: text as it stands
            if "\0" in event.value:
                self._add(_at(event), *text_json.NUL)
            return event.value
        return self._plain(event.value, _at(event))

    def _plain(self, value: str, at: Position) -> Any:
        if value in WORDS:
            return WORDS[value]
        if hint := _unclear(value):
            self._add(at, f"`{value}` means different things to different readers", hint)
            return value
        if INT.fullmatch(value):
            return self._int(value, at)
        return self._float(value, at) if FLOAT.fullmatch(value) else value

    def _int(self, value: str, at: Position) -> int | str:
        if len(value) <= 19 or (len(value) <= 20 and -(2**63) <= int(value) < 2**63):
            return int(value)
        self._add(at, "a whole number of more than 64 bits", f'write it in quotes: "{value[:24]}"')
        return value

    def _float(self, value: str, at: Position) -> float:
        number = float(value)
        if number in (float("inf"), float("-inf")):
            self._add(at, f"`{value[:24]}` is too large a number", None)
        return number

    def _refuse_extras(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._add(_at(event), f"aliases (`*{event.anchor}`) are not allowed", "write the value out")
        elif event.anchor is not None:
            self._add(
                _at(event), f"anchors (`&{event.anchor}`) are not allowed", "write the value out where it is used"
            )
        if getattr(event, "tag", None) is not None:
            hint = "put the text in quotes if it is one, as in when: '!payload.ready'; else remove the tag"
            self._add(_at(event), f"tags (`{event.tag}`) are not allowed", hint)

    def _syntax(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None)
        if getattr(error, "problem", "") == "mapping values are not allowed in this context" and self._run_together():
            return
        if mark is not None:
            context = getattr(error, "context", None)
            message = ", ".join(part for part in (context, getattr(error, "problem", None)) if part)
            hint = "indent with spaces, not with tabs" if "cannot start any token" in message else None
            self._add((mark.line + 1, mark.column + 1), f"not valid YAML: {message}", hint)
        else:
            at = text_json.position(self.text, getattr(error, "position", 0))
            self._add(at, f"not valid YAML: {getattr(error, 'reason', error)}", "remove the character")

    def _run_together(self) -> bool:
        """`- id: a     service: b.c` on one line: every such line is reported, with its right form."""
        found = False
        for number, line in enumerate(self.text.splitlines(), start=1):
            if match := RUN_TOGETHER.match(line):
                found = True
                more = re.split(r"\s+(?=\w+:\s)", match[4].strip())
                form = ", ".join([f"{match[2]}: {match[3]}", *more])
                self._add(
                    (number, match.start(4) + 1),
                    f"`{more[0].split(':')[0]}` must stand on a line of its own",
                    f"write each key on its own line, under `{match[2]}`, or on one line as - {{{form}}}",
                )
        return found

    def _add(self, at: Position, message: str, hint: str | None) -> None:
        self.problems.append((at, message, hint))

    def _stop(self, at: Position, message: str, hint: str | None) -> None:
        self._add(at, message, hint)
        raise _StopError


class _StopError(Exception):
    """Reading on would cost too much or make no sense."""


def _at(event: Any) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _unclear(value: str) -> str | None:
    if UNCLEAR_BOOL.fullmatch(value):
        return f'write {"true" if value.lower() in ("yes", "on") else "false"}, or "{value}" in quotes if text is meant'
    if SEXAGESIMAL.fullmatch(value) or UNCLEAR_NUMBER.fullmatch(value):
        return f'write "{value}" in quotes, or a plain decimal number'
    return "JSON has no such number: leave it out" if NOT_FINITE.fullmatch(value) else None
