"""Bugs planted in the core, one at a time: a simulation that does not find them is not one.

`python -m tests.unit.simulation.mutations` says how many schedules each took to be found, and shows it shrunk.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import patch

from orchestrator import (
    approvals,
    attempts,
    blocks,
    calls,
    compensation,
    conclusions,
    escalation,
    flow,
    kinship,
    legs,
    operators,
)
from orchestrator import retry as retries
from tests.unit.simulation.explore import Broken, explore, kind_of, shrink
from tests.unit.simulation.scenes import (
    ANYTHING,
    ESCALATED,
    FAMILY,
    FORGETFUL,
    HANDED_BACK,
    LOST_AND_UNDONE,
    SENT_LATE,
    Scene,
)
from tests.unit.simulation.world import World


@dataclass(frozen=True)
class Mutation:
    """In `function` of `module`, `old` becomes `new`."""

    says: str
    module: ModuleType | type
    function: str
    old: str
    new: str
    scene: Scene = ANYTHING  # in which it is looked for

    @contextmanager
    def planted(self) -> Iterator[None]:
        original = getattr(self.module, self.function)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.says}: {self.old!r} is not there once any more"
        names = dict(
            sys.modules[self.module.__module__].__dict__ if isinstance(self.module, type) else self.module.__dict__
        )
        exec(compile(source.replace(self.old, self.new), self.says, "exec", dont_inherit=True,
                     flags=__import__("__future__").annotations.compiler_flag), names)  # fmt: skip
        with patch.object(self.module, self.function, names[self.function]):
            yield


MUTATIONS = (
    Mutation("the attempt is not asked for when a result is recorded", conclusions, "conclude",
             "row is None or row.attempt != attempt.attempt", "row is None"),
    Mutation("a join is counted twice", flow, "_arrive", "row.branches_left - 1", "max(0, row.branches_left - 2)"),
    Mutation("a join is never reached", flow, "_arrive", "row.branches_left == 0", "row.branches_left == -1"),
    Mutation("undone in the order of the definition", compensation, "undo_next",
             "max(waiting, key=lambda row: row.done_seq or 0)", "max(waiting, key=lambda row: row.order)"),
    Mutation("what was done first is undone first", compensation, "undo_next", "max(waiting", "min(waiting"),
    Mutation("a lost lease leaves no doubt", attempts, "lose", 'uncertain=idempotency != "safe"', "uncertain=False"),
    Mutation("a suspended instance is claimed", attempts, "may_claim", "instance.header.suspended_at is None", "True"),
    Mutation("an escalation keeps its key", escalation, "escalate", "row.generation + 1", "row.generation"),
    Mutation("undone before what is UNKNOWN is settled", compensation, "drain",
             "row.state in states.UNSETTLED", "row.state == states.RUNNING"),
    Mutation("undone before what runs has landed", compensation, "drain",
             "row.state in states.UNSETTLED", "row.state == states.UNKNOWN"),
    Mutation("a lane is asked before a lost attempt can have arrived", attempts, "repeatable_at",
             "max(instance.now, row.lost_until) if must_ask and row.lost_until else instance.now", "instance.now"),
    Mutation("what cannot be repeated is repeated", retries, "_may_repeat", 'trial.lane.idempotency != "none" and ', ""),
    Mutation("a lost attempt that cannot be repeated is repeated", attempts, "lose", 'idempotency == "none"', "False"),
    Mutation("a forgotten key is sent again", retries, "is_forgotten", "has_ttl and", "False and"),
    Mutation("a repeat may arrive when its key is forgotten", calls, "_prepare_call", "attempt.limit_until or attempt.now",
             "attempt.now", FORGETFUL),
    Mutation("what has been decided is decided again", approvals, "_can_be_settled", "return by_service and", "return True or"),
    Mutation("what falls opens what it was about to", blocks, "_let_go", "return instance.is_falling", "return False"),
    Mutation("a verdict does not wait until the attempt is over", operators, "resolve",
             "row.lost_until > instance.now", "False"),
    Mutation("lost messages are never sent again", World, "republish", "for row in found:", "for row in ():"),
    Mutation("a commit that has failed is taken for landed", legs, "_has_landed",
             "if claimed is None:\n        return False", "if claimed is None:\n        return True"),
    Mutation("an escalation forgets that it may have been done", escalation, "escalate", "row.may_have_been_done", "False",
             ESCALATED),
    Mutation("what is handed back has used up a retry", attempts, "release", "tries=row.tries - 1",
             "tries=row.tries", HANDED_BACK),
    Mutation("undone while a lost attempt may be in flight", compensation, "_ready_undo", "done.lost_until", "None",
             LOST_AND_UNDONE),
    Mutation("nobody looks at the lease before a late send", calls, "_still_holds",
             "time.monotonic() - held.since < TRUST_LEASE", "True", SENT_LATE),
    Mutation("what only a person can tell is given up when its instance falls", compensation, "let_go",
             "row.uncertain and lives", "False and lives"),
    Mutation("a parent learns of another generation's child", kinship, "learn",
             "row is None or row.generation != end.generation", "row is None", FAMILY),
)  # fmt: skip


def found_in(mutation: Mutation, seed: int | str, schedules: int) -> Broken | None:
    with mutation.planted():
        try:
            explore(seed, schedules, mutation.scene)
        except Broken as broken:
            return broken
    return None


def main() -> None:
    for mutation in MUTATIONS:
        broken = found_in(mutation, "mutations", 15_000)
        if broken is None:
            print(f"NOT FOUND  {mutation.says}", flush=True)
            continue
        with mutation.planted():
            small = shrink(broken, mutation.scene, tries=150)
        print(f"after {broken.number:>6,} schedules  {mutation.says}: {kind_of(broken.error)};"
              f" {len(broken.numbers)} numbers, shrunk to {len(small)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
