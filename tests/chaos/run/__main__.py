"""`python -m tests.chaos.run --seconds 60 --seed 7 --broker rabbitmq --out FILE`: exit 0 when nothing is violated."""

from __future__ import annotations

import argparse
import random
import signal
import sys
from pathlib import Path

from tests.chaos.run.options import Options
from tests.chaos.run.whole import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the safety phase")
    parser.add_argument("--seed", type=int, help="of the faults, the load and the services' moods; default: at random")
    parser.add_argument("--broker", choices=("valkey", "rabbitmq"), default="valkey")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--most-open", type=int, default=100, help="instances under way at once")
    parser.add_argument("--calm", type=float, default=1.0, help="a factor by which the faults are rarer")
    parser.add_argument("--orders", action="store_true", help="operators suspend, retry and settle meanwhile")
    parser.add_argument("--out", type=Path, help="a file for what is printed")
    parser.add_argument(
        "--keep", type=Path, help="a folder for logs, ledger and a dump; by itself only after a violation"
    )
    given = vars(parser.parse_args())
    if given["seed"] is None:
        given["seed"] = random.SystemRandom().randrange(1_000_000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that nothing is left behind
    return run(Options(**given))


if __name__ == "__main__":
    sys.exit(main())
