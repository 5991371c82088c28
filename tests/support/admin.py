"""The admin listener's application, asked in this process: no sockets, a real ledger, a configuration as a person writes it.

async with admin_desk(tmp_path) as desk:
    answer = await desk.post("/admin/v1/keys", {"name": "ci"})
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tollhouse.config.load import load
from tollhouse.config.schema import Config, Scope
from tollhouse.ledger import store
from tollhouse.ledger.audit import Record
from tollhouse.ledger.audit_store import open_audit
from tollhouse.policy.counters import PurseState
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.admin.app import AdminApp
from tollhouse.server.admin.office import Office
from tollhouse.server.http.asgi import Message
from tollhouse.telemetry.audit import Trail
from tollhouse.upstream.health import ProviderHealth

ADMIN = "tha-admin-token-0123456789"
VIEWER = "tha-viewer-token-0123456789"
CALLER = "th-callers-key-0123456789"
TOKENS: Mapping[str, str | None] = {
    "admin": ADMIN,
    "viewer": VIEWER,
    "caller": CALLER,
    "unknown": "tha-x",
    "nobody": None,
}

CONFIG = """\
server: {admin_host: 127.0.0.1}
auth: {keys: [{name: dev, key: th-callers-key-0123456789}]}
admin:
  tokens:
    - {name: ops, token: tha-admin-token-0123456789, role: admin}
    - {name: eyes, token: tha-viewer-token-0123456789, role: viewer}
providers:
  lab: {type: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: sk-of-the-lab}
budgets: [{scope: global, daily: 10}]
"""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """A problem's."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json()["code"])


@dataclass
class AdminDesk:
    """An application with everything around it."""

    file: Path
    url: str
    config: Config
    office: Office = field(init=False)
    app: AdminApp = field(init=False)
    states: dict[str, PurseState] = field(default_factory=dict)
    """What the counters know."""
    health: list[ProviderHealth] = field(default_factory=list)
    reloads: int = 0
    purses_asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, the counters do not answer."""

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.office = Office(
            config=lambda: self.config,
            config_file=self.file,
            environ={"XDG_CONFIG_HOME": str(self.file.parent / "config")},
            ledger_url=self.url,
            reload=self.reload,
            providers=lambda: self.health,
            purses=self._purses,
            spent=self._spent,
            trail=Trail.of(self.url),
            loop=asyncio.get_running_loop(),
        )
        self.app = AdminApp(
            health=lambda: b'{"status":"serving"}',
            is_ready=lambda: True,
            readiness=lambda: "ready",
            metrics=lambda: (b"up 1\n", "text/plain"),
            office=self.office,
        )

    def reload(self) -> None:
        self.reloads += 1
        self.config = load(self.file, {}, defaults_by_type())

    async def _purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        self.purses_asked.release()
        await self.may_answer.wait()
        return [self.states[name] for name in names if name in self.states]

    async def _spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        assert from_us < before_us
        return 7 if scope.kind == "global" else 0

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        query: bytes = b"",
        client: tuple[str, int] | None = ("127.0.0.1", 40000),
    ) -> Reply:
        """One request.  `headers` replace those that are sent by themselves."""
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        fields = {"host": "127.0.0.1:9090", "content-length": str(len(data))}
        if data:
            fields["content-type"] = "application/json"
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        fields |= headers or {}
        path, _, given = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query or given.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items() if value],
            "client": client,
            "server": ("127.0.0.1", 9090),
        }
        sent: list[Message] = []
        incoming = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> Message:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = sent[0]
        answered = {name.decode(): value.decode() for name, value in head["headers"]}
        whole = b"".join(message.get("body", b"") for message in sent[1:])
        assert not sent[-1].get("more_body", False)
        assert method == "HEAD" or answered["content-length"] == str(len(whole))
        return Reply(head["status"], answered, whole)

    async def get(self, path: str, *, token: str | None = ADMIN) -> Reply:
        return await self.ask("GET", path, token=token)

    async def post(self, path: str, body: object = None, *, token: str | None = ADMIN) -> Reply:
        return await self.ask("POST", path, body, token=token)

    async def audited(self) -> list[Record]:
        """What stands in the audit log once the trail has written what it holds.  The trail ends with this."""
        await self.office.trail.aclose()
        log = open_audit(self.url)
        try:
            return list(log.records())
        finally:
            log.close()


@asynccontextmanager
async def admin_desk(folder: Path, text: str = CONFIG, *, url: str = "") -> AsyncIterator[AdminDesk]:
    """Writes a configuration and makes a ledger in `folder`, unless an address names another."""
    file = folder / "tollhouse.yaml"
    file.write_text(text)
    url = url or f"sqlite:///{folder / 't.db'}"
    await asyncio.to_thread(store.prepare, url)
    desk = AdminDesk(file, url, load(file, {}, defaults_by_type()))
    try:
        yield desk
    finally:
        desk.app.close()
        await desk.office.trail.aclose()
