"""CEL and template sources as tokens: which steps and roots are named, which `has()` guards there are. Pure.

CEL knows no `steps.up-load` (a subtraction), no step called `in` (a reserved word), and says true to
`has(steps.x)` of a dotted variable whatever it holds. So a step's id is rewritten to a name of its own,
and `has(steps.x.result)` to `(known.s_x&&has(steps.s_x.result))`, `known.s_x` being whether the step
has an outcome. Columns are mapped back.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      |(?P<text>[bB]?[rR][bB]?(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"[^"\n]*"|'[^'\n]*')
        |[bB]?(?:\"{3}(?:\\[\s\S]|[^\\])*?\"{3}|'{3}(?:\\[\s\S]|[^\\])*?'{3}
                |"(?:\\[^\n]|[^"\\\n])*"|'(?:\\[^\n]|[^'\\\n])*')
        |`[^`\n]*`)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?[A-Za-z0-9]*)
      |(?P<mark>[\s\S])""",
    re.VERBOSE,
)
STEP_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
ROOTS = ("payload", "trace", "tenant")


@dataclass(kw_only=True)
class Source:
    """One expression, parsed as far as names go. `cel` is what the CEL compiler gets."""

    text: str
    cel: str = ""
    roots: tuple[str, ...] = ()  # of payload, trace, tenant: those that are named
    items: tuple[str, ...] = ()  # of the items of loops: those that are named
    variables: dict[str, str] = field(default_factory=dict)  # step id → its name in `cel`
    guards: set[str] = field(default_factory=set)  # ids that stand inside has()
    bare: dict[str, int] = field(default_factory=dict)  # id → column where it stands outside has()
    members: list[tuple[str, str, int]] = field(default_factory=list)  # (id, the member asked of it, column)
    unknown: list[tuple[str, int]] = field(default_factory=list)  # names that are no known step, with columns
    problems: list[tuple[int, str]] = field(default_factory=list)
    divides: bool = False
    moves: list[tuple[int, int]] = field(default_factory=list)  # (offset in `cel`, offset in `text`)

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.variables)

    @property
    def unguarded(self) -> list[tuple[str, int]]:
        """Steps named outside has() in an expression that nowhere asks has() for them."""
        return [(name, column) for name, column in self.bare.items() if name not in self.guards]

    def column(self, column: int) -> int:
        """The author's column for one of the rewritten source's (both from 1)."""
        origin = (0, 0)
        for move in self.moves:
            if move[0] <= column - 1:
                origin = move
        return max(1, min(origin[1] + column - 1 - origin[0] + 1, len(self.text) + 1))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _tokens(text: str) -> list[_Token]:
    return [
        _Token(match.lastgroup or "", match[0], match.start())
        for match in TOKEN.finditer(text)
        if match.lastgroup != "space"
    ]


def parse(text: str, known: Collection[str], items: Collection[str] = ()) -> Source:
    """Find and rewrite the names in `text`. `known` has the step ids that may be named, `items` the items of loops."""
    source = Source(text=text)
    tokens = _tokens(text)
    named = {tokens[at].text for at in range(len(tokens)) if _is_root(tokens, at)}
    source.roots = tuple(root for root in ROOTS if root in named)
    source.items = tuple(item for item in items if item in named)
    source.divides = any(token.text == "/" for token in tokens)
    pieces, done = [], 0
    for at in range(len(tokens)):
        if tokens[at].start >= done and tokens[at].text == "steps" and _is_root(tokens, at):
            start, end, cel = _reference(source, tokens, at, known)
            pieces += [text[done:start], cel]
            source.moves.append((sum(map(len, pieces)), end))
            done = end
    source.cel = "".join([*pieces, text[done:]])
    return source


def _is_root(tokens: list[_Token], at: int) -> bool:
    """A name of its own, not a member (`payload.steps`)."""
    return tokens[at].kind == "name" and (at == 0 or tokens[at - 1].text != ".")


def _reference(source: Source, tokens: list[_Token], at: int, known: Collection[str]) -> tuple[int, int, str]:
    """What stands in the place of `steps.x`, or of `has(steps.x…)`: from, to, text."""
    here = tokens[at]
    name = _step_name(source.text, tokens, at, known)
    if name is None:
        source.problems.append((here.start + 1, "`steps` is followed by a step's id, as in steps.uploadDocs.result"))
        return here.start, here.end, here.text
    column, end = here.start + 1, tokens[at + 2].start + len(name)
    if name not in known:
        source.unknown.append((name, column))
        return here.start, end, source.text[here.start : end]
    variable = source.variables.setdefault(name, _variable(name))
    if member := _member(tokens, end):
        source.members.append((name, member, column))
    guard = _guard(tokens, at, end)
    if guard is None:
        source.bare.setdefault(name, column)
        return here.start, end, f"steps.{variable}"
    source.guards.add(name)
    rest = source.text[end : tokens[guard].start].strip()
    asked = f"known.{variable}&&has(steps.{variable}{rest})" if rest else f"known.{variable}"
    return tokens[at - 2].start, tokens[guard].end, f"({asked})"


def _step_name(text: str, tokens: list[_Token], at: int, known: Collection[str]) -> str | None:
    """The id after `steps.`: the longest known one, for `steps.a-b` may be the step `a-b` or `a` minus b."""
    if at + 2 >= len(tokens) or tokens[at + 1].text != "." or tokens[at + 2].kind != "name":
        return None
    match = STEP_ID.match(text, tokens[at + 2].start)
    if match is None:
        return None
    parts = match[0].split("-")
    tries = ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in tries if name in known), match[0])


def _member(tokens: list[_Token], end: int) -> str | None:
    """`result` in `steps.x.result`; nothing where a function is called (`steps.x.map(…)`) or an entry is taken."""
    after = [token for token in tokens if token.start >= end][:3]
    if len(after) < 2 or after[0].text != "." or after[1].kind not in ("name", "text"):
        return None
    return None if len(after) == 3 and after[2].text == "(" else after[1].text


def _guard(tokens: list[_Token], at: int, end: int) -> int | None:
    """The index of the bracket that closes `has(steps.x.y…)`, if that is what stands here."""
    if at < 2 or tokens[at - 1].text != "(" or tokens[at - 2].text != "has":
        return None
    for index in range(at + 3, len(tokens)):
        token = tokens[index]
        if token.start < end:
            continue
        if token.text == ")":
            return index
        if token.text != "." and token.kind not in ("name", "text"):
            return None
    return None


def _variable(name: str) -> str:
    """A CEL name that no other id has: `_` doubles, `-` becomes `_d`; the prefix avoids reserved words."""
    return "s_" + name.replace("_", "__").replace("-", "_d")


@lru_cache(maxsize=2048)
def split_template(text: str) -> tuple[tuple[str | Source, ...], int | None]:
    """`a ${b} c` → text and (only their `text` set) sources; and the offset of a `${` that is not closed."""
    pieces: list[str | Source] = []
    plain, offset = "", 0
    while (found := text.find("${", offset)) >= 0:
        if found > offset and text[found - 1] == "$":
            plain, offset = plain + text[offset : found - 1] + "${", found + 2
            continue
        end = _closing(text, found + 2)
        if end is None:
            return (*pieces, plain + text[offset:]), found
        pieces += [piece for piece in (plain + text[offset:found],) if piece]
        pieces.append(Source(text=text[found + 2 : end]))
        plain, offset = "", end + 1
    rest = plain + text[offset:]
    return (*pieces, *([rest] if rest or not pieces else [])), None


def _closing(text: str, start: int) -> int | None:
    """Where the brace stands that closes `${`; braces of CEL maps and in text literals do not count."""
    depth = 0
    for match in TOKEN.finditer(text, start):
        if match.lastgroup == "mark" and match[0] == "{":
            depth += 1
        elif match.lastgroup == "mark" and match[0] == "}":
            if depth == 0:
                return match.start()
            depth -= 1
    return None
