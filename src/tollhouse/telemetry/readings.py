"""What is read of the gateway when somebody scrapes, beside the counts of calls (`metrics`): the families, and their samples.

A family says how the processes of a gateway add up: counts and what each process has for itself are summed; of an opinion the
worst holds.  What a gateway has once (a budget, a journal on disk) is read by the process that answers, and by it alone.

Labels are bounded.  Each of them is one of: names of the configuration (providers, budgets), codes of errors, words of a list
in our own code.  Nothing that a caller can invent is one, and no key is named.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge"]
Over = Literal["sum", "largest", "smallest"]


class Family(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    """As it is scraped, `_total` included."""
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    over: Over = "sum"
    """What several processes' samples with the same labels come to."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value."""

    labels: tuple[str, ...]
    """In the order of the family's."""
    value: float


class Readings(msgspec.Struct):
    """Samples by the name of their family."""

    samples: dict[str, list[Sample]] = {}

    def put(self, family: Family, value: float, *labels: str) -> None:
        """Adds a sample, of other labels than those that are there."""
        self.samples.setdefault(family.name, []).append(Sample(labels, value))

    def put_all(self, family: Family, values: Iterable[tuple[tuple[str, ...], float]]) -> None:
        """Adds samples by their labels."""
        self.samples.setdefault(family.name, []).extend(Sample(labels, value) for labels, value in values)

    def of_the_dead(self) -> "Readings":
        """What is left of a process that ended: what it counted."""
        return Readings({name: found for name, found in self.samples.items() if _BY_NAME[name].kind == "counter"})


def joined(several: Iterable[Readings]) -> Readings:
    """The readings of several processes as those of one gateway."""
    whole: dict[str, dict[tuple[str, ...], float]] = {}
    for readings in several:
        for name, samples in readings.samples.items():
            found = whole.setdefault(name, {})
            over = _BY_NAME[name].over
            for sample in samples:
                before = found.get(sample.labels)
                found[sample.labels] = sample.value if before is None else _together(over, before, sample.value)
    return Readings({name: [Sample(labels, value) for labels, value in found.items()] for name, found in whole.items()})


def _together(over: Over, one: float, other: float) -> float:
    match over:
        case "sum":
            return one + other
        case "largest":
            return max(one, other)
        case "smallest":
            return min(one, other)


# ------------------------------------------------------------------------------------------------- refusals and trouble

REFUSED: Final = Family(
    "tollhouse_refused_total",
    "counter",
    ("code",),
    "Requests that the gateway itself refused, so that no provider was asked, by the code of the error.",
)
LIMITED: Final = Family(
    "tollhouse_limited_total",
    "counter",
    ("limit", "scope"),
    "Calls for which a limit had no room, nor would have in time: which kind of limit, of what kind of scope.",
)
WAITING: Final = Family("tollhouse_calls_waiting", "gauge", (), "Calls that wait for their turn under a limit now.")
WAITED: Final = Family(
    "tollhouse_call_waits_total", "counter", (), "How often a call waited for its turn under a limit."
)
WAITED_SECONDS: Final = Family(
    "tollhouse_call_wait_seconds_total", "counter", (), "How long calls waited for their turn under a limit, in all."
)
RETRIES: Final = Family(
    "tollhouse_retries_total", "counter", ("provider",), "Attempts that asked the same provider and model once more."
)
FALLBACKS: Final = Family(
    "tollhouse_fallbacks_total",
    "counter",
    ("provider", "failed"),
    "Attempts that went on to a provider or a model after another one (`failed` is its provider) had failed.",
)
CUT: Final = Family(
    "tollhouse_streams_cut_total",
    "counter",
    ("provider", "outcome"),
    "Streams that ended with an error after content had come; not those whose client left.",
)
MASKED: Final = Family(
    "tollhouse_prompts_masked_total",
    "counter",
    (),
    "Calls in which something was masked before a provider saw it (`logging.redact_upstream`).",
)

# ------------------------------------------------------------------------------------------------------------- money

BUDGET_LIMIT: Final = Family(
    "tollhouse_budget_limit_usd",
    "gauge",
    ("budget", "kind"),
    "What may be spent from a budget of the configuration in its present window, in dollars; not from those of keys.",
)
BUDGET_SPENT: Final = Family(
    "tollhouse_budget_spent_usd", "gauge", ("budget", "kind"), "What has been spent from it, in dollars."
)
BUDGET_HELD: Final = Family(
    "tollhouse_budget_held_usd",
    "gauge",
    ("budget", "kind"),
    "What is held in it for calls under way, at worst, in dollars.",
)

# ------------------------------------------------------------------------------------------------------------ sharing

CACHE_ANSWERS: Final = Family(
    "tollhouse_cache_answers_total",
    "counter",
    ("result",),
    "Calls by what kept answers did for them: `hit`, `miss`, or `off` where the caller or the call itself ruled it out.",
)
CACHE_BYTES: Final = Family(
    "tollhouse_cache_bytes", "gauge", (), "What kept answers take in memory, in all workers; not those kept in Valkey."
)
CACHE_ENTRIES: Final = Family(
    "tollhouse_cache_entries", "gauge", (), "Answers kept in memory, in all workers; not those kept in Valkey."
)
COALESCED: Final = Family(
    "tollhouse_coalesced_calls_total", "counter", (), "How often a call joined an identical one which was under way."
)
FLIGHTS: Final = Family(
    "tollhouse_shared_calls_in_flight", "gauge", (), "Upstream calls under way that others may join or have joined."
)

# ------------------------------------------------------------------------------------------------------------- stores

STORE_UP: Final = Family(
    "tollhouse_store_up",
    "gauge",
    ("store",),
    "Whether a store can be used (1) or calls go on without it (0): `ledger`, `keys`, `state`, `cache`.",
    "smallest",
)
LEDGER_ROWS: Final = Family(
    "tollhouse_ledger_rows_total",
    "counter",
    ("fate",),
    "Rows of the ledger by what became of them: `written`, `journaled`, `replayed` from a journal, `failed`.",
)
LEDGER_QUEUED: Final = Family(
    "tollhouse_ledger_queued_rows", "gauge", (), "Rows that wait in memory for the ledger's database."
)
JOURNAL_BYTES: Final = Family(
    "tollhouse_ledger_journal_bytes",
    "gauge",
    (),
    "What waits on this machine's disk in journals until the ledger's database takes it; 0 when nothing does.",
    "largest",
)
OWED: Final = Family(
    "tollhouse_state_owed_settlements",
    "gauge",
    (),
    "Settlements that the store which machines share (`state.url`) has still to be told, after an outage.",
)

# ---------------------------------------------------------------------------------------------------------- providers

PROVIDER_STATES: Final = ("unknown", "healthy", "degraded", "down")
PROVIDER_STATE: Final = Family(
    "tollhouse_provider_state",
    "gauge",
    ("provider", "state"),
    "1 for the state that a provider is in, 0 for the others; the worst that any worker saw.",
)
PROVIDER_FAULTS: Final = Family(
    "tollhouse_provider_consecutive_faults",
    "gauge",
    ("provider",),
    "Faults of a provider in a row; the most that any worker saw.",
    "largest",
)
PROVIDER_SUCCESS: Final = Family(
    "tollhouse_provider_last_success_timestamp_seconds",
    "gauge",
    ("provider",),
    "When a provider last answered, in seconds since 1970; none for one that has not yet.",
    "largest",
)
CONNECTIONS: Final = Family(
    "tollhouse_upstream_connections",
    "gauge",
    ("provider", "state"),
    "Connections to providers: `busy` (being made included) and `idle`.",
)
CONNECTIONS_WAITED_FOR: Final = Family(
    "tollhouse_upstream_connection_waiters",
    "gauge",
    ("provider",),
    "Calls that wait for a connection, for there are as many as there may be.",
)
LOOK_UPS: Final = Family(
    "tollhouse_name_lookups_total",
    "counter",
    ("outcome",),
    "Names of providers and proxies that were looked up: `ok` or `failed`.",
)
LOOKING_UP: Final = Family(
    "tollhouse_name_lookups_in_flight", "gauge", (), "Names that are being looked up now, or wait for it."
)
MODEL_STATES: Final = ("stopped", "starting", "ready", "waiting", "failed", "stopping")
MODEL_STATE: Final = Family(
    "tollhouse_local_model_state",
    "gauge",
    ("provider", "state"),
    "1 for the state that the process of an embedded model is in, 0 for the others; `waiting` is between death and restart.",
)
MODEL_DEATHS: Final = Family(
    "tollhouse_local_model_deaths_total",
    "counter",
    ("provider",),
    "How often the process of an embedded model died.",
)

# ------------------------------------------------------------------------------------------------- telemetry's own losses

LOST: Final = Family(
    "tollhouse_lost_total",
    "counter",
    ("what",),
    "What was to be told or kept and was lost: lines of `log` and `calls_log`, `spans`, `alerts`, `bodies` of calls, "
    "records of `audit`.",
)
BODIES_REFUSED: Final = Family(
    "tollhouse_bodies_unredactable_total",
    "counter",
    (),
    "Prompts and answers that were not kept because they could not be redacted.",
)

# -------------------------------------------------------------------------------------------------------- the gateway itself

IN_FLIGHT_LIMIT: Final = Family(
    "tollhouse_calls_in_flight_limit",
    "gauge",
    (),
    "How many calls all workers answer at once at most (`server.max_concurrent_calls` of each).",
)
DRAINING: Final = Family(
    "tollhouse_draining", "gauge", (), "Whether the gateway is shutting down and takes no calls.", "largest"
)
WORKERS: Final = Family("tollhouse_workers", "gauge", (), "Processes that answer calls.")
WORKER_RESTARTS: Final = Family(
    "tollhouse_worker_restarts_total", "counter", (), "Workers that ended by themselves and were started again."
)
MEMORY: Final = Family(
    "tollhouse_workers_resident_memory_bytes",
    "gauge",
    (),
    "Resident memory of all workers, pages that they share counted in each; on Linux.",
)
CPU: Final = Family(
    "tollhouse_workers_cpu_seconds_total", "counter", (), "CPU time that all workers have used, user and system."
)
RELOADED: Final = Family(
    "tollhouse_config_last_reload_successful",
    "gauge",
    (),
    "Whether the configuration file was good (1) when it was last read, or is refused and an older one serves (0).",
    "smallest",
)
RELOADED_AT: Final = Family(
    "tollhouse_config_last_reload_success_timestamp_seconds",
    "gauge",
    (),
    "When the configuration that serves was read, in seconds since 1970; of several workers' the oldest.",
    "smallest",
)
BUILD: Final = Family(
    "tollhouse_build_info", "gauge", ("version", "python"), "Always 1; its labels say what runs.", "largest"
)

FAMILIES: Final[tuple[Family, ...]] = (
    REFUSED,
    LIMITED,
    WAITING,
    WAITED,
    WAITED_SECONDS,
    RETRIES,
    FALLBACKS,
    CUT,
    MASKED,
    BUDGET_LIMIT,
    BUDGET_SPENT,
    BUDGET_HELD,
    CACHE_ANSWERS,
    CACHE_BYTES,
    CACHE_ENTRIES,
    COALESCED,
    FLIGHTS,
    STORE_UP,
    LEDGER_ROWS,
    LEDGER_QUEUED,
    JOURNAL_BYTES,
    OWED,
    PROVIDER_STATE,
    PROVIDER_FAULTS,
    PROVIDER_SUCCESS,
    CONNECTIONS,
    CONNECTIONS_WAITED_FOR,
    LOOK_UPS,
    LOOKING_UP,
    MODEL_STATE,
    MODEL_DEATHS,
    LOST,
    BODIES_REFUSED,
    IN_FLIGHT_LIMIT,
    DRAINING,
    WORKERS,
    WORKER_RESTARTS,
    MEMORY,
    CPU,
    RELOADED,
    RELOADED_AT,
    BUILD,
)
"""All of them, in the order in which they are shown."""

_BY_NAME: Final = {family.name: family for family in FAMILIES}
