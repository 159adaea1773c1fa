"""Becomes another program that does not outlive its parent: `python leash.py PARENT SIGNAL USER program …`.

Run as a script, by `child.spawn` only, and free of imports of ours, so that it starts in milliseconds and
can be read before the privileges are given up. It replaces itself by the program; nothing stays between.
On Linux the kernel sends SIGNAL when the parent is gone, SIGKILL included. It forgets that at every change
of user, hence the order here. Elsewhere a detached watcher looks four times a second.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_EVERY = 0.25


def become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def die_with(parent: int, signal: int, *, kernel: bool = sys.platform == "linux") -> None:
    if kernel:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    else:
        watch(parent, os.getpid(), signal)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(1)


def watch(parent: int, program: int, signal: int) -> None:
    """Fork twice, so that the program has no child that it does not know of."""
    if child := os.fork():
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        while alive(parent) and alive(program):
            time.sleep(LOOK_EVERY)
        if alive(program):
            os.kill(program, signal)
    os._exit(0)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    parent, signal, user, *program = sys.argv[1:]
    if user:
        become(user)
    die_with(int(parent), int(signal))
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"cannot start {program[0]}: {error}")
