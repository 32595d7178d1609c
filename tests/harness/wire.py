"""A wire between a store and its server that can be made to fail in any way."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator

READS = frozenset({b"MGET"})
WRITES = frozenset({b"EVALSHA", b"EVAL"})
DATA = READS | WRITES


class Wire:
    """Passes commands and replies on, as long as it is not told otherwise.

    Attributes:
        swallows: whether commands get lost on their way, and connections with them hang.
        mutes: whether what comes unasked gets lost.
        delay: seconds by which replies come later.
        says: what is replied in the server's stead, to which commands.
        spoils: what becomes of the server's reply to a data command: bytes to send, and
            whether the connection ends there.
        commands: the names of all that came.
        refuses: whether new connections are closed at once.
        loses: which data commands never arrive, nor anything after them on their connection.
        silences: at which data commands, or replies to them ("there", "back"), a connection
            goes silent.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", **tls) -> None:
        self._upstream = (host, port)
        self._tls = tls
        self.heal()
        self.connections = 0
        self.commands: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def heal(self) -> None:
        self.swallows = False
        self.refuses = False
        self.mutes = False
        self.delay = 0.0
        self.says: tuple[frozenset[bytes], bytes] | None = None
        self.spoils: Callable[[bytes], tuple[bytes, bool]] | None = None
        self.loses: Callable[[], bool] | None = None
        self.silences: tuple[str, Callable[[], bool]] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """End all connections now."""
        for writer in list(self._writers):
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def open(self, port: int = 0) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, **self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.drop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.refuses:
                return
            theirs, ours = await asyncio.open_connection(*self._upstream)
            self._writers.add(ours)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._talk(reader, writer, theirs, ours)
            ours.close()
            self._writers.discard(ours)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    @staticmethod
    async def _pause(for_ever: bool) -> None:
        if for_ever:
            await asyncio.sleep(3600)

    async def _flow(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """What comes unasked, in one direction."""
        while part := await source.read(65536):
            while self.swallows:
                await asyncio.sleep(0.01)
            if self.delay:
                await asyncio.sleep(self.delay)
            if not self.mutes:
                target.write(part)
                await target.drain()
        target.transport.abort()

    async def _talk(self, reader, writer, theirs, ours) -> None:
        while True:
            command = await one(reader)
            name = command.split(b"\r\n", 3)[2].upper()
            self.commands.append(name)
            while self.swallows:
                await asyncio.sleep(0.01)
            if self.says is not None and name in self.says[0]:
                writer.write(self.says[1])
                continue
            is_data = name in DATA
            if is_data and self.loses is not None and self.loses():
                return
            silent = self.silences[0] if is_data and self.silences and self.silences[1]() else None
            await self._pause(silent == "there")
            ours.write(command)
            if name == b"SUBSCRIBE":
                await asyncio.gather(self._flow(reader, ours), self._flow(theirs, writer))
                return
            reply = await one(theirs)
            await self._pause(silent == "back")
            if self.delay:
                await asyncio.sleep(self.delay)
            ends = False
            if self.spoils is not None and is_data:
                reply, ends = self.spoils(reply)
            writer.write(reply)
            await writer.drain()
            if ends:
                return


async def one(reader: asyncio.StreamReader) -> bytes:
    """One whole value of the protocol, RESP2 or RESP3, as its bytes."""
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind in b"$=!" and int(rest) >= 0:
        return line + await reader.readexactly(int(rest) + 2)
    if kind in b"*~>%":
        parts = [await one(reader) for _ in range(max(0, int(rest)) * (2 if kind == b"%" else 1))]
        return line + b"".join(parts)
    return line


async def _serve_until_killed(port: int, delay: float) -> None:
    async with Wire(port).open() as wire:
        wire.delay = delay
        print(wire.port, flush=True)  # noqa: T201  # whoever started this reads it
        await asyncio.Event().wait()


@contextlib.contextmanager
def slow_server(port: int, delay: float) -> Iterator[str]:
    """The URL of a wire in a process of its own: a busy event loop here makes nothing slower there."""
    command = [sys.executable, "-m", "tests.harness.wire", str(port), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"redis://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve_until_killed(int(sys.argv[1]), float(sys.argv[2])))
