"""`tollhouse tenant`: whom keys belong to, and what they may spend together."""

import click

from tollhouse.cli.register import (
    DOLLARS,
    budgets_of,
    edit_given,
    given,
    limits_of,
    opened,
    place_options,
    print_holder,
    print_json,
    print_table,
    say_topped_up,
    terms_options,
)


@click.group("tenant", help="Make and change tenants: whom keys belong to, and what they may spend together.")
def command() -> None:
    """Only a group."""


@command.command("create", help="Make a tenant, or bring a removed one back.")
@click.argument("name")
@click.option("--balance", "balance_nano", type=DOLLARS, metavar="DOLLARS", help="Make it prepaid; `topup` adds.")
@terms_options(of_key=False, edits=False)
@place_options
def create(name: str, balance_nano: int | None, config_file: str | None, url: str | None, **options: object) -> None:
    """Its limits and budgets are those of all its keys together."""
    from tollhouse.policy.registrar import NewTenant, create_tenant
    from tollhouse.policy.terms import Terms

    new = NewTenant(name=name, terms=given(options, Terms), balance_nano=balance_nano)
    opened(config_file, url, creates=True).write(lambda desk: create_tenant(desk, new))
    print(f"Made the tenant {name}.")


@command.command("list", help="List the tenants of the database.")
@click.option("--all", "removed_too", is_flag=True, help="Those that were removed too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def list_(removed_too: bool, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import all_tenants

    found = opened(config_file, url).read(lambda transaction: all_tenants(transaction, removed_too=removed_too))
    if as_json:
        for tenant in found:
            print_json(tenant)
        return
    if not found:
        print("No tenants in the database; `tollhouse tenant create` makes one.")
        return
    rows = [
        (
            one.name,
            "removed" if one.removed_at_us else "",
            limits_of(one.terms),
            budgets_of(one.terms, one.balance_nano),
        )
        for one in found
    ]
    print_table(("tenant", "state", "limits", "budgets"), rows)


@command.command("show", help="Say everything about a tenant.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; money in nano-USD.")
@place_options
def show(name: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import projects
    from tollhouse.policy.register import tenant as read_tenant

    register = opened(config_file, url)
    tenant = register.read(lambda transaction: read_tenant(transaction, name))
    if as_json:
        print_json(tenant)
        return
    print_holder(register, "tenant", tenant, name)
    of_it = register.read(lambda transaction: projects(transaction, tenant_name=name))
    if of_it:
        print()
        print_table(
            ("project", "limits", "budgets"),
            [(one.name, limits_of(one.terms), budgets_of(one.terms, one.balance_nano)) for one in of_it],
        )


@command.command("edit", help="Change a tenant's limits and budgets; what is not named stays.")
@click.argument("name")
@terms_options(of_key=False, edits=True)
@place_options
def edit(name: str, config_file: str | None, url: str | None, **options: object) -> None:
    """Reaches every worker within a second."""
    from tollhouse.policy.registrar import Edit, edit_tenant

    changes = edit_given(options, Edit)
    opened(config_file, url).write(lambda desk: edit_tenant(desk, name, changes))
    print(f"Changed the tenant {name}.")


@command.command("remove", help="Remove a tenant and its projects; the books keep its name.")
@click.argument("name")
@click.option("--revoke-keys", is_flag=True, help="Revoke its keys, too; without this they are in the way.")
@click.option("--cut", is_flag=True, help="With --revoke-keys: end their calls that are in flight, too.")
@place_options
def remove(name: str, revoke_keys: bool, cut: bool, config_file: str | None, url: str | None) -> None:
    """All or nothing."""
    from tollhouse.policy.registrar import remove_tenant

    opened(config_file, url).write(lambda desk: remove_tenant(desk, name, revokes_keys=revoke_keys, cuts=cut))
    print(f"Removed the tenant {name}.")


@command.command("topup", help="Pay into the balance of a prepaid tenant; `-- -5` takes back.")
@click.argument("name")
@click.argument("amount", type=DOLLARS, metavar="DOLLARS")
@click.option("--note", default="", help="What stands beside it: an invoice's number.")
@place_options
def topup(name: str, amount: int, note: str, config_file: str | None, url: str | None) -> None:
    """Top-ups are only ever added."""
    from tollhouse.policy.register import tenant as read_tenant
    from tollhouse.policy.registrar import top_up

    paid, tenant = opened(config_file, url).write(
        lambda desk: (top_up(desk, "tenant", name, amount, note=note), read_tenant(desk.transaction, name))
    )
    say_topped_up(paid, tenant.balance_nano)
