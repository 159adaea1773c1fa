"""`python -m tests.unit.simulation --schedules 1000000 --seed N`: explore, and say what was reached; the first schedule
that violates a law is shrunk and told, and the exit status is 1."""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys

from tests.unit.simulation import coverage
from tests.unit.simulation.explore import Broken, explore, shrink, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.unit.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1e9, help="of processor time, at most")
    parser.add_argument("--seed", default=str(secrets.randbelow(1_000_000)))
    parser.add_argument(
        "--replay", type=json.loads, help="the numbers of a schedule, as a JSON list: tell what happens"
    )
    given = parser.parse_args()
    if given.replay:
        print(told(given.replay))
        return 0
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    print(f"seed {given.seed}, commit {commit or 'unknown'}, Python {sys.version.split()[0]}", flush=True)
    try:
        reached = explore(given.seed, given.schedules, seconds=given.seconds)
    except Broken as broken:
        small = shrink(broken)
        print(f"schedule {broken.number} violates a law; shrunk from {len(broken.numbers)} numbers to {len(small)}:")
        print(told(small))
        print(f"again: python -m tests.unit.simulation --replay '{small}'")
        return 1
    print(coverage.told(reached))
    print("violations: 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
