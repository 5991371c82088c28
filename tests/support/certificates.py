"""Certificates for tests: a private authority in a folder, and what it signs.

pki = Pki(tmp_path)
config = f"server: {{tls: {pki.tls()}}}"
client = pki.client_context(pki.client("ci"))
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tollhouse.policy.authority import Authority, Issued, Request, host_name, make_authority

TODAY = datetime.now(UTC)
HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key in files."""

    cert: Path
    key: Path


class Pki:
    """An authority whose files are in a folder."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder = folder
        self._issued = make_authority(name, now=TODAY, days=30)
        self.authority = Authority(self._issued.chain, self._issued.key)
        self.ca = folder / f"{name.replace(' ', '-')}.crt"
        self.ca.write_bytes(self._issued.chain)

    def issue(
        self,
        common_name: str,
        *names: str,
        is_server: bool = False,
        days: int = 10,
        now: datetime = TODAY,
    ) -> Issued:
        return self.authority.issue(
            Request(common_name=common_name, names=names, is_server=is_server, days=days), now=now
        )

    def server(self, name: str = "server", *, hosts: tuple[str, ...] = HOSTS, now: datetime = TODAY) -> Pair:
        """A pair for a server, written to `NAME.crt` and `NAME.key`."""
        issued = self.issue(name, *(host_name(host) for host in hosts), is_server=True, now=now)
        return self.write(name, issued)

    def expired_server(self, name: str = "old") -> Pair:
        return self.server(name, now=TODAY - timedelta(days=20))

    def client(self, name: str, *names: str) -> Pair:
        return self.write(name, self.issue(name, *names))

    def write(self, name: str, issued: Issued) -> Pair:
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        pair.cert.write_bytes(issued.chain)
        pair.key.write_bytes(issued.key)
        pair.key.chmod(0o600)
        return pair

    def tls(self, pair: Pair | None = None, **others: object) -> str:
        """The text of a section `tls`."""
        pair = pair or self.server()
        more = "".join(f", {key}: {value}" for key, value in others.items())
        return f"{{cert: '{pair.cert}', key: '{pair.key}'{more}}}"

    def client_context(self, pair: Pair | None = None, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """How a careful client connects: as Python 3.13 does by default."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context
