"""The chaos run, short enough for CI: `pytest -m chaos_run`. `make test` leaves it out, for it takes minutes.

CHAOS_SEED repeats a run; CHAOS_SECONDS makes it longer. The ten-minute runs are `make chaos`.
"""

from __future__ import annotations

import os
import random

import pytest

from tests import rabbitmq, servers
from tests.chaos.run.options import Options
from tests.chaos.run.whole import run

pytestmark = [pytest.mark.chaos_run, pytest.mark.chaos, pytest.mark.integration]


@pytest.mark.timeout(480)
@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_nothing_is_lost_doubled_or_stuck_while_everything_dies_at_random(broker: str) -> None:
    if broker == "rabbitmq" and not rabbitmq.SCRIPTS.is_dir():
        servers.missing("RabbitMQ is not here: apt-get install rabbitmq-server")
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(1_000_000)))
    seconds = float(os.environ.get("CHAOS_SECONDS", "75"))

    ended = run(Options(seconds=seconds, seed=seed, broker=broker))  # type: ignore[arg-type]

    assert ended == 0, f"see the violations that were printed; seed {seed}"
