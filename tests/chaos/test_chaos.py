"""The chaos run, short enough for CI: `pytest -m chaos_run`. `make test` leaves it out, for it takes minutes.

CHAOS_SEED repeats a run; CHAOS_SECONDS makes it longer. The ten-minute runs are `make chaos`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests import rabbitmq, servers

pytestmark = [pytest.mark.chaos_run, pytest.mark.chaos, pytest.mark.integration]


@pytest.mark.timeout(480)
@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_nothing_is_lost_doubled_or_stuck_while_everything_dies_at_random(broker: str) -> None:
    if broker == "rabbitmq" and not rabbitmq.SCRIPTS.is_dir():
        servers.missing("RabbitMQ is not here: apt-get install rabbitmq-server")
    seed = os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(1_000_000)))
    asked = ["--broker", broker, "--seed", seed, "--seconds", os.environ.get("CHAOS_SECONDS", "75")]

    # As `make chaos` does: connections that the fire has left open belong to a process of its own.
    ended = subprocess.run([sys.executable, "-m", "tests.chaos.run", *asked], check=False)

    assert ended.returncode == 0, f"see the violations that were printed; seed {seed}"
