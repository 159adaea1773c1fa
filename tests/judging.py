"""What became of a race for one wait: its answers, its history and the service's ledger, held against each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tests.racers import Told
from tests.services import Airport

DECIDES = ("resolve", "reject", "fail", "skip", "escalate", "end")
HISTORY = """
SELECT instance_id, seq, verb, status, step, phase, generation, worker FROM history
WHERE instance_id = ANY(CAST(:ids AS uuid[])) ORDER BY instance_id, seq
"""
APPROVALS = """
SELECT s.instance_id, s.state, s.decision, s.decided_by, i.status FROM step s JOIN instance i ON i.id = s.instance_id
WHERE s.instance_id = ANY(CAST(:ids AS uuid[])) AND s.step = 'approval'
"""

Winner = Literal["callback", "contrary callback", "deadline, by a sweep", "deadline, by a late callback", "cancel"]
WINNERS: tuple[Winner, ...] = get_args(Winner)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What became of one wait."""

    kind: str
    instance: str
    told: Sequence[Told]
    history: Sequence[Any]  # seq, verb, status, step, phase, generation, worker
    state: str
    decision: str | None
    decided_by: str | None
    status: str
    effects: Sequence[str]

    @property
    def deciding(self) -> list[Any]:
        """Entries that ended the first generation's wait."""
        return [one for one in self.history if one.step == "approval" and one.phase == "do" and one.verb in DECIDES
                and (one.generation == 1 or one.verb == "escalate")]  # fmt: skip

    @property
    def winner(self) -> Winner:
        entry = self.deciding[0]
        if entry.verb == "end":
            return "cancel"
        is_answer = entry.verb in ("resolve", "reject") and (self.decided_by != "deadline")
        if is_answer:
            return "callback" if self.decision == "approved" else "contrary callback"
        return "deadline, by a sweep" if entry.worker else "deadline, by a late callback"


def judge(race: Race) -> list[str]:
    """What is wrong with a race; nothing where one has won and all others were told."""
    if [one.seq for one in race.history] != list(range(1, len(race.history) + 1)):
        return ["its history has a gap"]
    if len(race.deciding) != 1:
        return [f"decided {len(race.deciding)} times: {[one.verb for one in race.deciding]}"]
    return [*_answers(race), *_effects(race)]


def _answers(race: Race) -> Iterator[str]:
    winner = race.winner
    made = [one for one in race.told if one.answer == "made" and one.said != "cancel"]
    if len(made) != (1 if "callback" in winner and "deadline" not in winner else 0):
        yield f"{len(made)} answers were taken, and the winner is: {winner}"
    for one in race.told:
        if one.said == "cancel":
            continue
        if one.answer in ("made", "repeated") and race.decision != one.said:
            yield f"{one} was told that it stands, and {race.decision} does"
        if one.answer == "conflict" and one.present not in (race.decision, race.state, *_statuses(race)):
            yield f"{one} was told of {one.present}, and there is {race.decision}, {race.state}, {race.status}"
        if one.answer == "conflict" and race.decision == one.said and winner != "cancel":
            yield f"{one} was refused, and the same was decided"
        if one.answer == "gone" and not winner.startswith("deadline"):
            yield f"{one} was told that its time is up, and the winner is: {winner}"
    if winner == "deadline, by a late callback" and not any(one.answer == "gone" for one in race.told):
        yield "a late callback has performed the deadline, and was not told so"


def _statuses(race: Race) -> set[str]:
    """That it has had since."""
    return {one.status for one in race.history if one.step is None} | {race.status}


def _effects(race: Race) -> Iterator[str]:
    first = race.deciding[0].verb
    wanted = {"charge:g1:do"}
    if first == "escalate":
        wanted |= {"approval:g2:do", "granted:g1:do"}
    elif first in ("end", "fail"):
        wanted |= {"charge:g1:undo"}
    elif first == "skip":
        wanted |= {"passed:g1:do"}
    else:
        wanted |= {"granted:g1:do"} if race.decision == "approved" else {"declined:g1:do"}
    found = Counter(race.effects)
    if doubles := [key for key, count in found.items() if count > 1]:
        yield f"done more than once: {doubles}"
    if race.status == "CANCELLED":  # it may have come after the decision, and in the midst of what follows
        allowed, needed = wanted | {"charge:g1:undo"}, {"charge:g1:do", "charge:g1:undo"}
        if not needed <= set(found) <= allowed:
            yield f"cancelled, and done: {sorted(found)}"
    elif set(found) != wanted:
        yield f"{race.winner}, and done: {sorted(found)} instead of {sorted(wanted)}"


def read(airport: Airport, kind: str, told: Mapping[str, Sequence[Told]]) -> list[Race]:
    """The races of one kind, by what was told of each instance, once all have ended."""
    history: dict[str, list[Any]] = defaultdict(list)
    for row in airport.query(HISTORY, ids=list(told)):
        history[row.instance_id.hex].append(row)
    effects: dict[str, list[str]] = defaultdict(list)
    for key in airport.service.effects:
        trace, _, rest = key.partition(":")
        effects[trace].append(rest)
    return [
        Race(kind=kind, instance=row.instance_id.hex, told=told[row.instance_id.hex], history=history[row.instance_id.hex],
             state=row.state, decision=row.decision, decided_by=row.decided_by, status=row.status,
             effects=effects[row.instance_id.hex])
        for row in airport.query(APPROVALS, ids=list(told))
    ]  # fmt: skip
