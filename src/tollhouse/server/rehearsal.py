"""What would keep the gateway from starting that the file alone does not show: for `tollhouse config check`.

Nothing is opened, started or connected to.  What comes and goes is left out: a port that is taken, a database that is away.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, LocalModelUnavailable, NotInstalled
from tollhouse.extras import HTTP2, LOCAL, OTEL, POSTGRES, VALKEY, Extra, is_installed
from tollhouse.ledger.address import is_postgresql, sqlite_path
from tollhouse.ledger.prices import PriceBook, overrides_from
from tollhouse.policy.redaction.configured import redactor_of
from tollhouse.providers.registry import build
from tollhouse.server.embedded import local_settings
from tollhouse.server.supervisor import wants_grpc
from tollhouse.upstream.address import BadAddress, parse_address

_ANY_ADDRESS: Final = "http://127.0.0.1:1"
"""Of an embedded model, whose own is known once it runs."""


def rehearse(
    config: Config, environ: Mapping[str, str], *, is_there: Callable[[str], bool] = is_installed
) -> tuple[str, ...]:
    """Raises `ConfigError` with every problem; gives warnings.  `is_there` says whether a module can be imported.

    A model that was not fetched yet is a warning: nothing in the file is wrong.
    """
    warnings: list[str] = []
    problems = [
        *_missing(config, is_there),
        *_of(lambda: redactor_of(config, "secrets")),
        *_of(lambda: PriceBook.load(overrides_from(config.prices.overrides))),
        *_providers(config),
    ]
    if not is_postgresql(config.ledger.url):
        problems += _of(lambda: sqlite_path(config.ledger.url))
    for provider in config.providers.values():
        if provider.type != "local" or provider.base_url is not None:
            continue
        try:
            local_settings(config, provider, environ)
        except ConfigError as error:
            problems += error.problems
        except LocalModelUnavailable as error:
            warnings.append(config.places.problem(f"providers.{provider.name}", str(error)))
    if problems:
        raise ConfigError(problems)
    return tuple(warnings)


def _missing(config: Config, is_there: Callable[[str], bool]) -> Iterator[str]:
    """Optional parts that are asked for and not installed."""
    needs: list[tuple[str, Extra, bool]] = [
        ("ledger.url", POSTGRES, is_postgresql(config.ledger.url)),
        ("state.url", VALKEY, config.state.url is not None),
        ("server.http2", HTTP2, config.server.http2),
        ("telemetry.traces", OTEL, config.telemetry.traces is not None),
        *(
            (f"providers.{provider.name}", LOCAL, True)
            for provider in config.providers.values()
            if provider.type == "local" and provider.base_url is None
        ),
    ]
    for path, extra, is_wanted in needs:
        if is_wanted and (missing := extra.missing(is_there)):
            yield config.places.problem(path, f"This needs {missing[0]}, which is not installed: {extra.command}.")
    try:
        wants_grpc(config, is_asked_for=False, is_installed=is_there)
    except NotInstalled as error:
        yield config.places.problem("server.grpc_port", str(error))


def _providers(config: Config) -> Iterator[str]:
    for name, settings in config.providers.items():
        is_embedded = settings.type == "local" and settings.base_url is None
        try:
            parse_address(build(replace(settings, base_url=_ANY_ADDRESS) if is_embedded else settings).base_url)
        except (BadAddress, ValueError) as error:
            yield config.places.problem(f"providers.{name}", str(error))
        except ConfigError as error:
            yield from error.problems


def _of(make: Callable[[], object]) -> tuple[str, ...]:
    try:
        make()
    except ConfigError as error:
        return error.problems
    return ()
