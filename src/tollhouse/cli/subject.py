"""`tollhouse subject`: what the bearers of signed tokens may do, whatever their tokens say."""

import time

import click

from tollhouse.cli.register import (
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
    short,
    state_of,
    terms_fields,
    terms_options,
    uses_of,
)


@click.group("subject", help="Say what the bearers of signed tokens may do, whatever their tokens say.")
def command() -> None:
    """Only a group."""


@command.command("create", help="Write a subject down; from then on this counts, and not what its tokens say.")
@click.argument("name")
@click.option("--tenant", default="", help="Whom it belongs to; see `tollhouse tenant`.")
@click.option("--project", default="", help="A project of that tenant.")
@terms_options(of_key=True, edits=False)
@place_options
def create(
    *,
    name: str,
    tenant: str,
    project: str,
    expires_at_us: int | None,
    config_file: str | None,
    url: str | None,
    **options: object,
) -> None:
    """For a subject of an OIDC issuer, the name is ISSUER/SUB."""
    from tollhouse.policy.subjects import NewSubject, create_subject
    from tollhouse.policy.terms import KeyTerms

    terms = given(options, KeyTerms)
    register = opened(config_file, url, creates=True)
    register.warn_of_unknown(terms.models, terms.providers)
    new = NewSubject(name=name, tenant=tenant, project=project, terms=terms, expires_at_us=expires_at_us)
    register.write(lambda desk: create_subject(desk, new))
    print(f"Made the subject {name}.")


@command.command("list", help="List the subjects of the database.")
@click.option("--all", "revoked_too", is_flag=True, help="Those that were revoked too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def list_(*, revoked_too: bool, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.subjects import all_subjects

    register = opened(config_file, url)
    found = register.read(lambda transaction: all_subjects(transaction, revoked_too=revoked_too))
    if as_json:
        for subject in found:
            print_json(subject)
        return
    now_us = time.time_ns() // 1000
    rows = [
        (
            subject.name,
            holder_of(subject.tenant, subject.project),
            state_of(subject.revoked_at_us, subject.expires_at_us, now_us),
            uses_of(subject.terms),
            limits_of(subject.terms),
            budgets_of(subject.terms, None),
        )
        for subject in found
    ]
    if rows:
        print_table(("subject", "tenant", "state", "may use", "limits", "budgets"), rows)
    else:
        print("No subjects in the database: what tokens may do stands in the tokens.")


@command.command("show", help="Say everything about a subject.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; money in nano-USD.")
@place_options
def show(name: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.register import spent_by_key
    from tollhouse.policy.subjects import subject as read_subject

    register = opened(config_file, url)
    subject, spent_nano = register.read(
        lambda transaction: (read_subject(transaction, name), spent_by_key(transaction, f"subject:{name}"))
    )
    if as_json:
        print_json(subject)
        return
    print_fields(
        [
            ("subject", subject.name),
            ("tenant", subject.tenant),
            ("project", subject.project),
            ("state", state_of(subject.revoked_at_us, subject.expires_at_us, time.time_ns() // 1000)),
            *access_fields(subject.terms),
            *means_fields(subject.terms, None),
            ("spent in all", short(spent_nano)),
            *terms_fields(subject.terms),
            ("created", moment(subject.created_at_us)),
        ]
    )


@command.command("edit", help="Change a subject; what is not named stays.")
@click.argument("name")
@terms_options(of_key=True, edits=True)
@place_options
def edit(name: str, config_file: str | None, url: str | None, **options: object) -> None:
    """Reaches every worker within a second, and every token that it has."""
    from tollhouse.policy.registrar import KeyEdit
    from tollhouse.policy.subjects import edit_subject

    changes = edit_given(options, KeyEdit)
    register = opened(config_file, url)
    subject = register.write(lambda desk: edit_subject(desk, name, changes))
    register.warn_of_unknown(subject.terms.models, subject.terms.providers)
    print(
        f"Changed the subject {name}: {state_of(subject.revoked_at_us, subject.expires_at_us, time.time_ns() // 1000)}."
    )


@command.command("revoke", help="Let no token of these subjects in; within a second no worker does.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--cut", is_flag=True, help="End their calls that are in flight, too.")
@place_options
def revoke(names: tuple[str, ...], cut: bool, config_file: str | None, url: str | None) -> None:
    """All of them or none."""
    from tollhouse.policy.subjects import revoke_subject

    opened(config_file, url).write(lambda desk: [revoke_subject(desk, name, cuts=cut) for name in names])
    for name in names:
        print(f"Revoked the subject {name}{' and cut its calls' if cut else ''}.")


@command.command("restore", help="Let a revoked subject in again, with the tokens of it that are still good.")
@click.argument("name")
@place_options
def restore(name: str, config_file: str | None, url: str | None) -> None:
    """Tokens that were revoked themselves stay so."""
    from tollhouse.policy.subjects import restore_subject

    opened(config_file, url).write(lambda desk: restore_subject(desk, name))
    print(f"Restored the subject {name}.")
