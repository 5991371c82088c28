"""Where operations over the network read and change what the database knows of callers: as the command line does, and noted."""

from collections.abc import Callable
from typing import Any, TypeVar

from tollhouse.ledger.transaction import Transaction
from tollhouse.policy import register, registrar
from tollhouse.policy.registrar import Desk
from tollhouse.server.admin.operation import Asked
from tollhouse.telemetry.audit import RegisterAudit

T = TypeVar("T")


def reserved(asked: Asked[Any, Any]) -> tuple[str, ...]:
    """Names that keys of the database cannot have, because the configuration's have them."""
    return tuple(key.name for key in asked.office.config().auth.keys)


def at_desk(asked: Asked[Any, Any], work: Callable[[Desk], T]) -> T:
    """Does work at a desk, in one transaction and in the audit log; see `registrar.write`.  Blocks."""
    return registrar.write(
        asked.office.ledger_url,
        work,
        actor=asked.actor,
        audit=RegisterAudit(address=asked.address, request_id=asked.request_id),
        reserved=reserved(asked),
    )


def looked_up(asked: Asked[Any, Any], work: Callable[[Transaction], T]) -> T:
    """Reads in one transaction; see `register.read`.  Blocks."""
    return register.read(asked.office.ledger_url, work)
