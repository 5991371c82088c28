"""`tollhouse serve`: run the gateway."""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tollhouse.errors import ConfigError, TollhouseError

if TYPE_CHECKING:
    from tollhouse.config.overrides import Overrides
    from tollhouse.config.schema import Config
    from tollhouse.server.fork_server import ForkServer
    from tollhouse.server.supervisor import Announcement

STDIN: Final = 0


@click.command("serve", help="Run the gateway until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--host", help="Address to listen on, in place of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, in place of server.port.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Admin port, in place of server.admin_port.")
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="gRPC port, in place of server.grpc_port; 0 is no gRPC.",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes, in place of server.workers.")
@click.option("--end-with-stdin", is_flag=True, help="End when standard input does: with the program that holds it.")
def command(
    *,
    config_file: str | None,
    host: str | None,
    port: int | None,
    admin_port: int | None,
    grpc_port: int | None,
    workers: int | None,
    end_with_stdin: bool,
) -> None:
    """Runs in the foreground."""
    from tollhouse.config.overrides import Overrides

    run(
        config_file,
        Overrides(host=host, port=port, admin_port=admin_port, grpc_port=grpc_port, workers=workers),
        missing="There is no configuration. `tollhouse config init` writes one; `tollhouse demo` needs none.",
        end_with_stdin=end_with_stdin,
    )


def run(
    config_file: str | None,
    overrides: "Overrides",
    *,
    missing: str,
    announcement: "Announcement | None" = None,
    end_with_stdin: bool = False,
) -> None:
    """Runs a gateway in the foreground until it is told to end.  Raises `ConfigError`; `missing` says that there is no file."""
    from tollhouse.server import hangups

    with hangups.held_back():  # until the gateway serves
        _run(config_file, overrides, missing, announcement, end_with_stdin=end_with_stdin)


def _run(
    config_file: str | None,
    overrides: "Overrides",
    missing: str,
    announcement: "Announcement | None",
    *,
    end_with_stdin: bool,
) -> None:
    import uvloop

    from tollhouse.config.load import find, load
    from tollhouse.providers.registry import defaults_by_type

    path = find(config_file, os.environ, Path.cwd(), Path.home())
    if path is None:
        raise ConfigError([missing])
    config = load(path, os.environ, defaults_by_type())
    effective = overrides.over(config)
    if effective.server.workers > 1 and not hasattr(os, "fork"):
        raise ConfigError(["Several workers need a POSIX system; set server.workers to 1."])

    from tollhouse.server.supervisor import serve
    from tollhouse.telemetry import logs
    from tollhouse.telemetry.outlet import Outlet

    # Before anything here starts a thread: what is forked later has none.
    forks = _fork_server(effective) if effective.server.workers > 1 else None
    if end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    outlet = Outlet("stderr", lost=logs.tell_lost("gateway"))
    logs.configure(effective.logging.level, effective.logging.format, outlet)
    try:
        uvloop.run(serve(path, config, os.environ, _told, overrides=overrides, announcement=announcement, forks=forks))
    except TollhouseError as error:
        print(f"tollhouse: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        if forks is not None:
            forks.close()
        outlet.close()


def _fork_server(config: "Config") -> "ForkServer | None":
    from tollhouse.server.fork_server import ForkServer
    from tollhouse.server.late_imports import needed_for
    from tollhouse.server.worker import live

    return ForkServer.start(needed_for(config), live)


def _end_with_stdin() -> None:
    """Asks this process to end, as SIGTERM does, when nobody holds the other end of its standard input any more.

    Not through `sys.stdin`: an interpreter that ends while a thread holds the lock of its buffer aborts.
    """
    with suppress(OSError):  # whoever closed it does not hold it either
        while os.read(STDIN, 4096):  # nothing ever comes; this waits for the end
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _told(line: str) -> None:
    print(line, flush=True)
