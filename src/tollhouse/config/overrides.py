"""What a command line says over the configuration's file.

It is laid over the file each time that is read, in every process, so that a reload does not bring back what was overruled.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from tollhouse.config.schema import Config, TlsSettings
from tollhouse.config.tls import plain_text_problem
from tollhouse.config.values import is_loopback, nearest
from tollhouse.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """`None` and false leave the file's word."""

    host: str | None = None
    port: int | None = None
    admin_port: int | None = None
    grpc_port: int | None = None
    workers: int | None = None
    insecure: bool = False
    """Whether plain text may leave this machine."""
    without_http: bool = False
    """Whether gRPC alone is served."""
    requires_auth: bool = False
    """Whether nobody is let in without a credential, whatever `auth.open` says."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    requests_per_minute: int | None = None
    """Over all calls."""
    concurrent: int | None = None
    """Over all calls."""
    model: str | None = None
    """What a call that names no model gets."""
    tls: TlsSettings | None = None

    def over(self, config: Config) -> Config:
        """The configuration as it is with these.  Raises `ConfigError` for what cannot be."""
        server = config.server
        server = replace(
            server,
            host=_said(self.host, server.host),
            port=_said(self.port, server.port),
            admin_port=_said(self.admin_port, server.admin_port),
            grpc_port=_said(self.grpc_port, server.grpc_port),
            workers=_said(self.workers, server.workers),
            http=server.http and not self.without_http,
            tls=self.tls or server.tls,
            insecure=server.insecure or self.insecure,
        )
        overall = config.limits.overall
        overall = replace(
            overall,
            requests_per_minute=_said(self.requests_per_minute, overall.requests_per_minute),
            concurrent=_said(self.concurrent, overall.concurrent),
        )
        result = replace(
            config,
            server=server,
            auth=replace(config.auth, open=config.auth.open and not self.requires_auth),
            limits=replace(config.limits, overall=overall),
            logging=replace(config.logging, level=_said(self.log_level, config.logging.level)),
            default_model=config.default_model if self.model is None else _model(config, self.model),
        )
        _check(result)
        return result


NOTHING_OVERRULED: Final = Overrides()


def _said(here: T | None, file: T) -> T:
    return file if here is None else here


def _model(config: Config, name: str) -> str:
    """The name that routes know; a model that one provider alone lists may be named without it."""
    owner, slash, model = name.partition("/")
    if name in config.aliases or (slash and model and owner in config.providers):
        return name
    listed = [f"{provider.name}/{each.name}" for provider in config.providers.values() for each in provider.models]
    found = [each for each in listed if each.partition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    known = [*config.aliases, *listed]
    meant = nearest(name, known)
    hint = f" Did you mean {meant!r}?" if meant else " A provider's model is written provider/model."
    raise ConfigError([f"--model: There is no model {name[:200]!r} here.{hint}"])


def _check(config: Config) -> None:
    """Refuses what only both together bring about: the file alone, and each option alone, may be fine."""
    server = config.server
    if not server.http and not server.grpc_port:
        raise ConfigError(["Neither HTTP nor gRPC is to be served, so nobody could call."])
    ports = [("admin_port", server.admin_host, server.admin_port)]
    ports += [("port", server.host, server.port)] if server.http else []
    ports += [("grpc_port", server.host, server.grpc_port)] if server.grpc_port else []
    taken: dict[tuple[str, int], str] = {}
    for name, host, port in ports:
        if port and (host, port) in taken:
            raise ConfigError([f"`{taken[host, port]}` and `{name}` cannot both be port {port}; change one of them."])
        taken[host, port] = name
    if is_loopback(server.host):
        return
    if server.tls is None and not server.insecure:
        raise ConfigError([plain_text_problem("gateway", server.host)])
    if config.auth.open:
        raise ConfigError(
            [f"Calls without a key (`auth.open`) are let in on a loopback address only, not on {server.host}."]
        )
