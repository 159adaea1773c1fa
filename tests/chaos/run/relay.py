"""A TCP relay that breaks what it carries: `python -m tests.chaos.run.relay LINKS.json`.

LINKS.json: `{name: {"listen": [host, port], "to": [[host, port], …]}}`. It is told what to do by lines on its standard
input, `{"do": …, "links": [name, …]}`:

cut     end every connection by a reset, and new ones as soon as they are made
stall   half-open: nothing is carried and nobody is told; new connections are taken and lead nowhere
snip    `share` of the replies is thrown away and the connection reset: sent, and no answer
heal    carry again. What was held back is delivered, unless its sender has hung up meanwhile
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HELD = 1_000_000  # bytes that a stalled connection holds back before it stops reading


@dataclass(eq=False)
class Link:
    name: str
    targets: list[tuple[str, int]]
    mode: str = "heal"
    share: float = 0.0
    pairs: set[Pair] = field(default_factory=set)

    def obey(self, order: dict[str, Any]) -> None:
        self.mode, self.share = order["do"], order.get("share", 0.0)
        for pair in list(self.pairs):
            if self.mode == "cut":
                pair.abort()
            elif self.mode == "heal":
                pair.resume()


@dataclass(eq=False)
class Pair:
    """Two ends of one connection: whoever asked, and the server."""

    link: Link
    client: End | None = None
    server: End | None = None
    held: list[tuple[End, bytes]] = field(default_factory=list)
    is_connecting: bool = False
    hung_up: bool = False  # while it was stalled

    def begin(self, client: End) -> None:
        self.client = client
        self.link.pairs.add(self)
        if self.link.mode == "cut":
            self.abort()
        elif self.link.mode != "stall":
            self._connect()

    def _connect(self) -> None:
        self.is_connecting = True
        host, port = random.choice(self.link.targets)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(lambda: End(self, is_client=False), host, port))
        task.add_done_callback(lambda done: self.abort() if done.cancelled() or done.exception() else None)

    def joined(self, server: End) -> None:
        self.server = server
        if self.client is None or self.client.is_gone:
            self.abort()
        elif self.link.mode != "stall":
            self._release()

    def carry(self, sender: End, data: bytes) -> None:
        link = self.link
        if link.mode == "stall" or self.server is None:
            self.held.append((sender, data))
            if sum(len(part) for _, part in self.held) > HELD:
                sender.transport.pause_reading()
        elif link.mode == "snip" and sender is self.server and random.random() < link.share:
            self.abort()
        else:
            self._write(sender, data)

    def _write(self, sender: End, data: bytes) -> None:
        other = self.server if sender is self.client else self.client
        if other is not None and not other.transport.is_closing():
            other.transport.write(data)

    def _release(self) -> None:
        held, self.held = self.held, []
        for sender, data in held:
            self._write(sender, data)
            sender.transport.resume_reading()

    def resume(self) -> None:
        if self.hung_up:
            self.abort()
        elif self.server is not None:
            self._release()
        elif not self.is_connecting:
            self._connect()

    def lost(self, end: End) -> None:
        """Half-open: the other side is not told before it is healed."""
        if self.link.mode == "stall":
            self.hung_up = True
            return
        other = self.server if end is self.client else self.client
        if other is not None:
            other.transport.close()
        self.link.pairs.discard(self)

    def abort(self) -> None:
        self.link.pairs.discard(self)
        for end in (self.client, self.server):
            if end is not None:
                end.abort()
        self.client = None


class End(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, pair: Pair, *, is_client: bool) -> None:
        self.pair, self.is_client, self.is_gone = pair, is_client, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.is_client:
            self.pair.begin(self)
        else:
            self.pair.joined(self)

    def data_received(self, data: bytes) -> None:
        self.pair.carry(self, data)

    def eof_received(self) -> None:
        """Noted at once: an order that is read in the same moment comes later."""
        self.pair.hung_up = self.pair.hung_up or self.pair.link.mode == "stall"

    def connection_lost(self, _: Exception | None) -> None:
        self.is_gone = True
        self.pair.lost(self)

    def abort(self) -> None:
        """asyncio's own raises where a transport has ended by sending what it still had."""
        if not self.is_gone:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._other_reads(False)

    def resume_writing(self) -> None:
        self._other_reads(True)

    def _other_reads(self, may: bool) -> None:
        other = self.pair.server if self.is_client else self.pair.client
        if other is not None and not other.transport.is_closing():
            (other.transport.resume_reading if may else other.transport.pause_reading)()


async def serve(links: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    made: dict[str, Link] = {}
    for name, told in links.items():
        link = made[name] = Link(name=name, targets=[(host, port) for host, port in told["to"]])
        host, port = told["listen"]
        await loop.create_server(lambda link=link: End(Pair(link), is_client=True), host, port, backlog=512)  # type: ignore[misc]
    print("ready", flush=True)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        for name in order["links"]:
            made[name].obey(order)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
