"""What a worker imports only when it is needed, and so would import anew in each of several processes."""

import importlib
from collections.abc import Iterable
from contextlib import suppress

from tollhouse.config.schema import Config
from tollhouse.ledger.address import is_postgresql


def needed_for(config: Config) -> tuple[str, ...]:
    """The modules that workers of this configuration import after their start, or at their first calls."""
    server = config.server
    wanted = {
        "re2": True,  # the redactor's
        "encodings.idna": True,  # the resolver's
        "tollhouse.telemetry.exposition": True,
        "tollhouse.server.grpc.services": bool(server.grpc_port),
        "tollhouse.server.http2": server.http and server.http2,
        "tollhouse.ledger.postgres": is_postgresql(config.ledger.url),
        "tollhouse.policy.valkey.store": config.state.url is not None,
        "tollhouse.policy.tokens.signatures": config.auth.jwt is not None or bool(config.auth.oidc),
        "tollhouse.telemetry.traces": config.telemetry.traces is not None,
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def import_early(modules: Iterable[str]) -> None:
    """Imports what can be imported.  Of the rest whoever needs it says what is wrong with it, as without this."""
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)
