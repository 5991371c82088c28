"""The gateway itself over the network: its configuration, its providers, its audit log."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tollhouse.config.load import diff, load
from tollhouse.config.show import show
from tollhouse.errors import ConfigError
from tollhouse.ledger.audit import Outcome, Record, entry
from tollhouse.ledger.audit_store import Filter, open_audit
from tollhouse.policy.identity import wall_us
from tollhouse.policy.redaction.configured import redactor_of
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.admin.operation import Asked, Limit, Moment, Nothing, Operation, Page, RowNumber, page_of
from tollhouse.upstream.health import ProviderHealth


class ShownConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in effect."""

    file: str
    yaml: str
    """Every value, with where it came from as a comment; secrets are masked."""
    warnings: Sequence[str]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changes."""

    changed: Sequence[str]
    """Paths of what differs from before."""
    needs_restart: Sequence[str]
    """Those of them that take effect with a restart only."""


class ShownProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider, and how its calls went lately."""

    name: str
    type: str
    state: str
    """`unknown` (not called yet), `healthy`, `degraded` or `down`; with several workers the worst that one of them saw."""
    consecutive_faults: int
    last_error: str | None
    """The stable code of the latest error that spoke against it."""
    last_success_at_seconds: float | None


class ManyRecords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records are wanted."""

    since_us: Moment | None = None
    before: RowNumber | None = None
    """Only records older than that one."""
    actor: str = ""
    action: str = ""
    """`key.create`, or `key` for all that begin so."""
    object: str = ""
    outcome: Outcome | None = None
    limit: Limit = 100


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the audit log."""

    seq: int
    at_us: int
    actor: str
    action: str
    object: str
    changes: dict[str, Any]
    address: str
    outcome: Outcome
    request_id: str
    events: int
    previous: str
    """The hash of the record before, in hexadecimal."""
    hash: str


def _show_config(asked: Asked[Nothing, Nothing]) -> ShownConfig:
    config = asked.office.config()
    return ShownConfig(file=str(asked.office.config_file), yaml=show(config.places), warnings=config.warnings)


def _reload(asked: Asked[Nothing, Nothing]) -> Reloaded:
    """Loads the file here first, so that what is wrong with it is answered and nothing is swapped."""
    office = asked.office
    try:
        config = load(office.config_file, office.environ, defaults_by_type())
        redactor_of(config, "secrets")  # loading takes patterns that it refuses
    except ConfigError as error:
        _record_reload(asked, "failed", {"code": error.code, "problems": len(error.problems)})
        raise
    changes = diff(office.config(), config)
    office.loop.call_soon_threadsafe(office.reload)
    answer = Reloaded(
        changed=[change.path for change in changes],
        needs_restart=[change.path for change in changes if change.needs_restart],
    )
    _record_reload(asked, "ok", {"changed": answer.changed})
    return answer


def _record_reload(asked: Asked[Nothing, Nothing], outcome: Outcome, changes: Mapping[str, object]) -> None:
    asked.office.trail.record(
        entry(
            at_us=wall_us(),
            actor=asked.actor,
            action="config.reload",
            object=str(asked.office.config_file),
            changes=changes,
            address=asked.address,
            outcome=outcome,
            request_id=asked.request_id,
        )
    )


def _list_providers(asked: Asked[Nothing, Nothing]) -> Page[ShownProvider]:
    office = asked.office
    known = {health.provider: health for health in office.on_loop(office.providers)}
    items = []
    for name, settings in office.config().providers.items():
        health = known.get(name) or ProviderHealth(provider=name, state="unknown")
        items.append(
            ShownProvider(
                name=name,
                type=settings.type,
                state=health.state,
                consecutive_faults=health.consecutive_faults,
                last_error=health.last_error,
                last_success_at_seconds=health.last_success_at_seconds,
            )
        )
    return Page(items=items)


def _list_audit(asked: Asked[ManyRecords, Nothing]) -> Page[AuditRecord]:
    query = asked.query
    log = open_audit(asked.office.ledger_url)
    try:
        found = log.newest(
            Filter(
                since_us=query.since_us,
                before_seq=query.before,
                actor=query.actor,
                action=query.action,
                object=query.object,
                outcome=query.outcome or "",
            ),
            query.limit + 1,
        )
    finally:
        log.close()
    return page_of([_shown(record) for record in found], query.limit, lambda record: str(record.seq))


def _shown(record: Record) -> AuditRecord:
    fields = msgspec.structs.asdict(record)
    fields["changes"] = msgspec.json.decode(record.changes) if record.changes else {}
    fields["previous"], fields["hash"] = record.previous.hex(), record.hash.hex()
    return AuditRecord(**fields)


SYSTEM_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listAudit",
        method="GET",
        path="/admin/v1/audit",
        role="viewer",
        summary="The audit log, newest first; `tollhouse audit verify` proves that it is whole",
        tag="system",
        query=ManyRecords,
        body=Nothing,
        answer=Page[AuditRecord],
        work=_list_audit,
    ),
    Operation(
        id="showConfig",
        method="GET",
        path="/admin/v1/config",
        role="viewer",
        summary="The configuration in effect, with secrets masked",
        tag="system",
        query=Nothing,
        body=Nothing,
        answer=ShownConfig,
        work=_show_config,
    ),
    Operation(
        id="reload",
        method="POST",
        path="/admin/v1/reload",
        role="admin",
        summary="Read the configuration file again; if anything is wrong with it, the old one goes on serving",
        tag="system",
        query=Nothing,
        body=Nothing,
        answer=Reloaded,
        work=_reload,
    ),
    Operation(
        id="listProviders",
        method="GET",
        path="/admin/v1/providers",
        role="viewer",
        summary="The configured providers, and how their calls went lately",
        tag="system",
        query=Nothing,
        body=Nothing,
        answer=Page[ShownProvider],
        work=_list_providers,
    ),
)
