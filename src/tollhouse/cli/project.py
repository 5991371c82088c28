"""`tollhouse project`: what a tenant's keys are used for, and what they may spend for it."""

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


class Place(click.ParamType[tuple[str, str]]):
    """`TENANT/PROJECT`."""

    name = "project"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Both names."""
        tenant, separator, project = str(value).partition("/")
        if not (tenant and separator and project):
            self.fail(f"{value!r} is not TENANT/PROJECT.", param, ctx)
        return tenant, project


place_argument = click.argument("place", type=Place(), metavar="TENANT/PROJECT")


@click.group("project", help="Make and change projects of a tenant.")
def command() -> None:
    """Only a group."""


@command.command("create", help="Make a project of a tenant, or bring a removed one back.")
@place_argument
@click.option("--balance", "balance_nano", type=DOLLARS, metavar="DOLLARS", help="Make it prepaid; `topup` adds.")
@terms_options(of_key=False, edits=False)
@place_options
def create(
    place: tuple[str, str], balance_nano: int | None, config_file: str | None, url: str | None, **options: object
) -> None:
    """Its limits and budgets are those of all its keys together."""
    from tollhouse.policy.registrar import NewProject, create_project
    from tollhouse.policy.terms import Terms

    tenant, name = place
    new = NewProject(tenant=tenant, name=name, terms=given(options, Terms), balance_nano=balance_nano)
    opened(config_file, url, creates=True).write(lambda desk: create_project(desk, new))
    print(f"Made the project {tenant}/{name}.")


@command.command("list", help="List the projects of the database.")
@click.option("--tenant", default="", help="Only this tenant's.")
@click.option("--all", "removed_too", is_flag=True, help="Those that were removed too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def list_(tenant: str, removed_too: bool, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import projects

    found = opened(config_file, url).read(
        lambda transaction: projects(transaction, tenant_name=tenant, removed_too=removed_too)
    )
    if as_json:
        for project in found:
            print_json(project)
        return
    if not found:
        print("No projects in the database; `tollhouse project create TENANT/PROJECT` makes one.")
        return
    rows = [
        (
            f"{one.tenant}/{one.name}",
            "removed" if one.removed_at_us else "",
            limits_of(one.terms),
            budgets_of(one.terms, one.balance_nano),
        )
        for one in found
    ]
    print_table(("project", "state", "limits", "budgets"), rows)


@command.command("show", help="Say everything about a project.")
@place_argument
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; money in nano-USD.")
@place_options
def show(place: tuple[str, str], as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import project as read_project

    register = opened(config_file, url)
    project = register.read(lambda transaction: read_project(transaction, *place))
    if as_json:
        print_json(project)
        return
    print_holder(register, "project", project, "/".join(place))


@command.command("edit", help="Change a project's limits and budgets; what is not named stays.")
@place_argument
@terms_options(of_key=False, edits=True)
@place_options
def edit(place: tuple[str, str], config_file: str | None, url: str | None, **options: object) -> None:
    """Reaches every worker within a second."""
    from tollhouse.policy.registrar import Edit, edit_project

    changes = edit_given(options, Edit)
    opened(config_file, url).write(lambda desk: edit_project(desk, *place, changes))
    print(f"Changed the project {'/'.join(place)}.")


@command.command("remove", help="Remove a project; the books keep its name.")
@place_argument
@click.option("--revoke-keys", is_flag=True, help="Revoke its keys, too; without this they are in the way.")
@click.option("--cut", is_flag=True, help="With --revoke-keys: end their calls that are in flight, too.")
@place_options
def remove(place: tuple[str, str], revoke_keys: bool, cut: bool, config_file: str | None, url: str | None) -> None:
    """All or nothing."""
    from tollhouse.policy.registrar import remove_project

    opened(config_file, url).write(lambda desk: remove_project(desk, *place, revokes_keys=revoke_keys, cuts=cut))
    print(f"Removed the project {'/'.join(place)}.")


@command.command("topup", help="Pay into the balance of a prepaid project; `-- -5` takes back.")
@place_argument
@click.argument("amount", type=DOLLARS, metavar="DOLLARS")
@click.option("--note", default="", help="What stands beside it: an invoice's number.")
@place_options
def topup(place: tuple[str, str], amount: int, note: str, config_file: str | None, url: str | None) -> None:
    """Top-ups are only ever added."""
    from tollhouse.policy.register import project as read_project
    from tollhouse.policy.registrar import top_up

    name = "/".join(place)
    paid, project = opened(config_file, url).write(
        lambda desk: (top_up(desk, "project", name, amount, note=note), read_project(desk.transaction, *place))
    )
    say_topped_up(paid, project.balance_nano)
