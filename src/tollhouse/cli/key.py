"""`tollhouse key`: issue, change, rotate and revoke keys."""

import time
from datetime import timedelta

import click

from tollhouse.cli.register import (
    DOLLARS,
    SPAN,
    access_fields,
    budgets_of,
    edit_given,
    given,
    holder_of,
    limits_of,
    means_fields,
    moment,
    opened,
    place_options,
    print_fields,
    print_json,
    print_table,
    print_top_ups,
    say,
    say_topped_up,
    short,
    state_of,
    terms_fields,
    terms_options,
    uses_of,
)


@click.group("key", help="Issue, list, change, rotate and revoke keys.")
def command() -> None:
    """Only a group."""


@command.command("create", help="Issue a key. It is printed this once, alone on standard output, and not kept.")
@click.argument("name")
@click.option("--tenant", default="", help="Whom it belongs to; see `tollhouse tenant`.")
@click.option("--project", default="", help="A project of that tenant.")
@click.option("--balance", "balance_nano", type=DOLLARS, metavar="DOLLARS", help="Make it prepaid; `key topup` adds.")
@terms_options(of_key=True, edits=False)
@place_options
def create(
    *,
    name: str,
    tenant: str,
    project: str,
    balance_nano: int | None,
    expires_at_us: int | None,
    config_file: str | None,
    url: str | None,
    **options: object,
) -> None:
    """Prints the secret."""
    from tollhouse.policy.registrar import NewKey, create_key
    from tollhouse.policy.terms import KeyTerms

    terms = given(options, KeyTerms)
    register = opened(config_file, url, creates=True)
    register.warn_of_unknown(terms.models, terms.providers)
    new = NewKey(
        name=name, tenant=tenant, project=project, terms=terms, expires_at_us=expires_at_us, balance_nano=balance_nano
    )
    issued = register.write(lambda desk: create_key(desk, new))
    say(f"The key {name!r}, which is not kept anywhere and cannot be shown again:")
    print(issued.secret)
    if issued.key.expires_at_us is not None:
        say(f"It expires on {moment(issued.key.expires_at_us)}.")


@command.command("list", help="List the keys of the database.")
@click.option("--tenant", default="", help="Only this tenant's.")
@click.option("--project", default="", help="Only this project's, of that tenant.")
@click.option("--all", "revoked_too", is_flag=True, help="Those that were revoked too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def list_(
    *, tenant: str, project: str, revoked_too: bool, as_json: bool, config_file: str | None, url: str | None
) -> None:
    """Reads only."""
    if project and not tenant:
        raise click.UsageError("A project belongs to a tenant; name it with --tenant.")

    from tollhouse.policy.register import all_keys

    register = opened(config_file, url)
    found = register.read(
        lambda transaction: all_keys(transaction, tenant_name=tenant, project_name=project, revoked_too=revoked_too)
    )
    if as_json:
        for key in found:
            print_json(key)
        return
    now_us = time.time_ns() // 1000
    rows = [
        (
            key.name,
            holder_of(key.tenant, key.project),
            state_of(key.revoked_at_us, key.expires_at_us, now_us),
            uses_of(key.terms),
            limits_of(key.terms),
            budgets_of(key.terms, key.balance_nano),
        )
        for key in found
    ]
    if rows:
        print_table(("key", "tenant", "state", "may use", "limits", "budgets"), rows)
    else:
        print("No keys in the database; `tollhouse key create` makes one.")
    if (count := len(register.config_keys())) and not tenant:
        plural = "key is" if count == 1 else "keys are"
        say(f"{count} more {plural} in the configuration (auth.keys).")


@command.command("show", help="Say everything about a key, but the key.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; money in nano-USD.")
@place_options
def show(name: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import key as read_key
    from tollhouse.policy.register import spent_by_key

    register = opened(config_file, url)
    key, spent_nano = register.read(lambda transaction: (read_key(transaction, name), spent_by_key(transaction, name)))
    if as_json:
        print_json(key)
        return
    now_us = time.time_ns() // 1000
    rotated = key.former_until_us is not None and key.former_until_us > now_us
    print_fields(
        [
            ("key", key.name),
            ("tenant", key.tenant),
            ("project", key.project),
            ("state", state_of(key.revoked_at_us, key.expires_at_us, now_us)),
            ("fingerprint", f"sha256:{key.fingerprint}…"),
            ("former secret", f"good until {moment(key.former_until_us)}" if rotated else ""),
            *access_fields(key.terms),
            *means_fields(key.terms, key.balance_nano),
            ("spent in all", short(spent_nano)),
            *terms_fields(key.terms),
            ("created", moment(key.created_at_us)),
        ]
    )
    print_top_ups(register, "key", name)


@command.command("edit", help="Change a key; what is not named stays.")
@click.argument("name")
@terms_options(of_key=True, edits=True)
@place_options
def edit(name: str, config_file: str | None, url: str | None, **options: object) -> None:
    """Reaches every worker within a second."""
    from tollhouse.policy.registrar import KeyEdit, edit_key

    changes = edit_given(options, KeyEdit)
    register = opened(config_file, url)
    key = register.write(lambda desk: edit_key(desk, name, changes))
    register.warn_of_unknown(key.terms.models, key.terms.providers)
    print(f"Changed the key {name}: {state_of(key.revoked_at_us, key.expires_at_us, time.time_ns() // 1000)}.")


@command.command("revoke", help="Take keys back, for good; within a second no worker lets them in.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--cut", is_flag=True, help="End their calls that are in flight, too.")
@place_options
def revoke(names: tuple[str, ...], cut: bool, config_file: str | None, url: str | None) -> None:
    """All of them or none."""
    from tollhouse.policy.registrar import revoke_key

    register = opened(config_file, url)
    register.write(lambda desk: [revoke_key(desk, name, cuts=cut) for name in names])
    for name in names:
        print(f"Revoked the key {name}{' and cut its calls' if cut else ''}.")


@command.command("rotate", help="Give a key a new secret. It is printed this once, alone on standard output.")
@click.argument("name")
@click.option("--overlap", type=SPAN, default="0", show_default=True, help="How long the old secret stays good: 24h.")
@place_options
def rotate(name: str, overlap: timedelta, config_file: str | None, url: str | None) -> None:
    """Prints the secret."""
    from tollhouse.policy.registrar import rotate_key

    register = opened(config_file, url)
    issued = register.write(lambda desk: rotate_key(desk, name, overlap_seconds=overlap.total_seconds()))
    say(f"The new secret of the key {name!r}, which is not kept anywhere and cannot be shown again:")
    print(issued.secret)
    until = moment(issued.key.former_until_us) if overlap else "now"
    say(f"The old one is good until {until}.")


@command.command("topup", help="Pay into the balance of a prepaid key; `-- -5` takes back.")
@click.argument("name")
@click.argument("amount", type=DOLLARS, metavar="DOLLARS")
@click.option("--note", default="", help="What stands beside it: an invoice's number.")
@place_options
def topup(name: str, amount: int, note: str, config_file: str | None, url: str | None) -> None:
    """Top-ups are only ever added."""
    from tollhouse.policy.register import key as read_key
    from tollhouse.policy.registrar import top_up

    register = opened(config_file, url)
    paid, key = register.write(
        lambda desk: (top_up(desk, "key", name, amount, note=note), read_key(desk.transaction, name))
    )
    say_topped_up(paid, key.balance_nano)
