"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

from orchestrator.errors import ServerError

LOOPBACK = "127.0.0.1"
# Below the range that systems take outgoing connections' ports from (Linux 32768, macOS and IANA 49152):
# otherwise a client that tries again while its server is restarted can be given the server's own port.
CANDIDATES = range(20000, 32000)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not hold it
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def reserve(port: int, host: str = LOOPBACK) -> socket.socket | None:
    """Keep a free port for a server that is started later; none: it is taken. Released when the socket is closed.

    Two stacks that start together would both find 8080 free. Whoever has the UDP port of the same number has
    the right to the TCP one: it is exclusive, knows no lingering connections, and goes with the process.
    """
    token = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        token.bind((host, port))
    except OSError:
        token.close()
        return None
    if is_free(port, host):
        return token
    token.close()
    return None


def free_port() -> int:
    for port in random.sample(CANDIDATES, 200):
        if is_free(port):
            return port
    raise ServerError(f"no free port between {CANDIDATES.start} and {CANDIDATES.stop}: stop a stack that is not used")
