import sys, tempfile, time
from pathlib import Path
from tests import servers
from orchestrator.store.database import upgrade
from tests.chaos.crashpoints.ground import *

with servers.postgres() as pg, servers.broker() as br, servers.database(pg) as db, tempfile.TemporaryDirectory() as d:
    upgrade(db)
    with ground(db, br, Path(d)) as g:
        for name in sys.argv[1:] or SHAPES:
            t = time.monotonic()
            v = g.run(Schedule(shape=name))
            print(name, v.executions[0].ended, len(v.executions[0].points), f"{time.monotonic()-t:.2f}", v.violations)
            if "-v" in sys.argv: print(*v.executions[0].points, sep="\n")
        print(len(g.points))
