"""A proxy that cuts a connection at a command: before the server gets it, or after it has answered."""

import asyncio
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Stands before a server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.cut_at: bytes | None = None
        """What the fatal command contains; it is fatal once."""
        self.is_carried_out = True
        """Whether the server gets that command; its answer is heard in neither case."""
        self.cuts = 0
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
            await asyncio.wait([asyncio.get_running_loop().create_task(_closed(writer))])

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, server_writer}
        is_fatal = False

        async def answers() -> None:
            while data := await server_reader.read(65_536):
                if is_fatal:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()
            server_writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(answers())
            while data := await reader.read(65_536):
                if self.cut_at is not None and self.cut_at in data:
                    self.cut_at = None
                    self.cuts += 1
                    is_fatal = True
                    if not self.is_carried_out:
                        writer.close()
                        break
                server_writer.write(data)
                await server_writer.drain()
            server_writer.close()
        for each in (writer, server_writer):
            await _closed(each)
            self._writers.discard(each)


async def _closed(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.wait_closed()
    except OSError:
        return
