"""`tollhouse token`: issue, list and revoke signed tokens, and rotate the keys that sign them."""

import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.register import (
    BUDGET_WANTED,
    SPAN,
    OrNone,
    Register,
    access_fields,
    budgets_of,
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
    read_budget,
    read_moment,
    say,
    state_of,
    terms_fields,
    terms_options,
    uses_of,
)

if TYPE_CHECKING:
    from tollhouse.policy.registrar import Desk
    from tollhouse.policy.tokens.issuing import Mint, Token

DEFAULT_LIFE: Final = "30d"
LIVES: Final = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365, "": 1}
"""Units in days.  Here `m` is a month, as in the tool that tokens were made with before, and not a minute."""
LIFE_WANTED: Final = (
    "how long it is good: 12h, 30d, 2w, 6m (months of 30 days) or 1y, a number of days, or a date to come"
)


def read_life(text: str) -> int:
    """When a token ends, from a span or a date, in microseconds since the epoch.  Raises `ValueError`, also for the past."""
    from tollhouse.ledger.moments import us_of

    now = datetime.now(UTC)
    found = re.fullmatch(r"(\d{1,5})([hdwmy]?)", text)
    if found is None:
        ends_at_us = read_moment(text) if re.match(r"\d{4}-", text) else 0
    else:
        ends_at_us = us_of(now + timedelta(days=int(found[1]) * LIVES[found[2]]))
    if ends_at_us <= us_of(now):
        raise ValueError(text)
    return ends_at_us


LIFE = OrNone("life", read_life, LIFE_WANTED, may_clear=False)
BUDGET = OrNone("budget", read_budget, BUDGET_WANTED, may_clear=False)


@click.group("token", help="Issue, list and revoke signed tokens, and rotate the keys that sign them.")
def command() -> None:
    """Only a group."""


@command.command("create", help="Issue a token. It is printed this once, alone on standard output, and not kept.")
@click.argument("subject")
@click.option(
    "--expires-in", "life", type=LIFE, default=DEFAULT_LIFE, show_default=True, metavar="SPAN|DATE",
    help="12h, 30d, 6m (months), 1y, or a date.",
)  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False), help="Write it to this file, which only you can read.")
@click.option("--force", is_flag=True, help="Replace that file if it is there.")
@click.option("--tenant", default="", help="Whom the subject belongs to; see `tollhouse tenant`.")
@click.option("--project", default="", help="A project of that tenant.")
@click.option("--budget", type=BUDGET, metavar="DOLLARS", help="The same as --total.")
@terms_options(of_key=True, edits=False, expires=False)
@place_options
def create(
    *,
    subject: str,
    life: int,
    output: str | None,
    force: bool,
    tenant: str,
    project: str,
    budget: int | None,
    config_file: str | None,
    url: str | None,
    **options: object,
) -> None:
    """Prints the token, or writes it."""
    from tollhouse.policy.terms import KeyTerms
    from tollhouse.policy.tokens.issuing import NewToken, issue_token

    if budget is not None:
        if options.get("total_nano") is not None:
            raise click.UsageError("--budget is the same as --total; give one of them.")
        options["total_nano"] = budget
    target = None if output is None else Path(output)
    if target is not None and not force and os.path.lexists(target):
        raise click.UsageError(f"{target} is there already; name another file, or say --force.")
    terms = given(options, KeyTerms)
    register = opened(config_file, url, creates=True)
    register.warn_of_unknown(terms.models, terms.providers)
    mint = mint_of(register)
    new = NewToken(subject=subject, tenant=tenant, project=project, terms=terms, expires_at_us=life)
    issued = register.write(lambda desk: issue_token(desk, mint, new))
    try:
        if target is None:
            print(issued.text)
        else:
            from tollhouse.config.folders import write_file

            write_file(target, issued.text.encode() + b"\n", replace=force)
    except OSError as error:
        _take_back(register, issued.record.jti)
        raise click.ClickException(
            f"The token could not be written: {error.strerror or error}; it was revoked."
        ) from error
    where = "" if target is None else f" It is in {target}, which only you can read."
    say(
        f"A token for {subject!r}, good until {moment(issued.record.expires_at_us)}; it is not kept anywhere else.{where}\n"
        f"Its id, to revoke it with: {issued.record.jti}"
    )


@command.command("list", help="List the tokens that are good.")
@click.option("--subject", default="", help="Only this subject's.")
@click.option("--all", "all_too", is_flag=True, help="Those that were revoked or have expired too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def list_(*, subject: str, all_too: bool, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.tokens.issuing import all_tokens

    register = opened(config_file, url)
    now_us = time.time_ns() // 1000
    found = register.read(
        lambda transaction: all_tokens(transaction, subject_name=subject, good_at_us=None if all_too else now_us)
    )
    if as_json:
        for token in found:
            print_json(token)
        return
    rows = [
        (
            token.jti,
            token.subject or "(not issued here)",
            holder_of(token.tenant, token.project),
            _state_of(token, now_us),
            uses_of(token.terms),
            ", ".join(filter(None, (limits_of(token.terms), budgets_of(token.terms, None)))),
        )
        for token in found
    ]
    if rows:
        # What says nothing of any token would only make the lines longer.
        shown = [n for n, name in enumerate(_LISTED) if name not in {"tenant", "limits"} or any(row[n] for row in rows)]
        print_table([_LISTED[n] for n in shown], [[row[n] for n in shown] for row in rows])
    else:
        print("No tokens that are good; `tollhouse token create` issues one.")


_LISTED: Final = ("id", "subject", "tenant", "state", "may use", "limits")


@command.command("show", help="Say everything about a token, but the token.")
@click.argument("jti", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; money in nano-USD.")
@place_options
def show(jti: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    from tollhouse.policy.tokens.issuing import token as read_token

    register = opened(config_file, url)
    token = register.read(lambda transaction: read_token(transaction, jti))
    if as_json:
        print_json(token)
        return
    print_fields(
        [
            ("id", token.jti),
            ("subject", token.subject or "(not issued here)"),
            ("tenant", token.tenant),
            ("project", token.project),
            ("state", _state_of(token, time.time_ns() // 1000)),
            ("signed with", token.kid),
            *access_fields(token.terms),
            *means_fields(token.terms, None),
            *terms_fields(token.terms),
            ("issued", f"{moment(token.issued_at_us)} by {token.actor}"),
        ]
    )


@command.command(
    "revoke",
    short_help="Take tokens back, for good.",
    help="Take tokens back, for good; within a second no worker lets them in.",
)
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--subject", default="", help="All of this subject's that are good.")
@click.option("--cut", is_flag=True, help="End their calls that are in flight, too.")
@click.option(
    "--foreign", is_flag=True, help="Ids of tokens that were not issued here: of the older tool, of an OIDC issuer."
)
@place_options
def revoke(
    *, ids: tuple[str, ...], subject: str, cut: bool, foreign: bool, config_file: str | None, url: str | None
) -> None:
    """All of them or none."""
    from tollhouse.policy.tokens.issuing import Token, all_tokens, revoke_token

    if not ids and not subject:
        raise click.UsageError("Name the ids of tokens, or a subject with --subject.")
    register = opened(config_file, url)

    def work(desk: "Desk") -> list[Token]:
        named = list(ids)
        if subject:
            good = all_tokens(desk.transaction, subject_name=subject, good_at_us=desk.now_us)
            named += [token.jti for token in good if token.jti not in named]
        return [revoke_token(desk, jti, cuts=cut, is_foreign=foreign) for jti in named]

    done = register.write(work)
    for token in done:
        whose = f" of {token.subject}" if token.subject else ""
        print(f"Revoked the token {token.jti}{whose}{' and cut its calls' if cut else ''}.")
    if not done:
        print(f"The subject {subject} has no token that is good.")


@command.command(
    "rotate-secret",
    short_help="Make a new key that signs.",
    help="Make a new key that signs; tokens of those before stay good for a while.",
)
@click.option("--overlap", type=SPAN, default="30d", show_default=True, help="How long: 30d; 0 ends them at once.")
@place_options
def rotate_secret(overlap: timedelta, config_file: str | None, url: str | None) -> None:
    """Never prints a secret."""
    from tollhouse.policy.tokens.issuing import rotate_signing_key

    register = opened(config_file, url, creates=True)
    mint = mint_of(register)
    made = register.write(lambda desk: rotate_signing_key(desk, mint, overlap_seconds=overlap.total_seconds()))
    print(f"Made the key {made.kid} ({made.algorithm}), which signs from now on. Its secret is in {mint.secrets.path}.")
    until = f"until {moment(time.time_ns() // 1000 + int(overlap.total_seconds() * 1e6))}" if overlap else "no longer"
    print(f"Tokens of the keys before are good {until}.")


@command.command("keys", help="List the keys that sign tokens, or did.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@place_options
def keys(as_json: bool, config_file: str | None, url: str | None) -> None:
    """Never shows a secret."""
    from tollhouse.policy.tokens.issuing import signing_keys

    register = opened(config_file, url)
    found = register.read(signing_keys)
    if as_json:
        for key in found:
            print_json(key)
        return
    mint = mint_of(register)
    now_us = time.time_ns() // 1000
    rows = []
    signs = mint.settings.secret is None
    for key in found:
        is_good = key.until_us is None or key.until_us > now_us
        state = "accepted" if is_good else "refused"
        until = "" if key.until_us is None else f" {'until' if is_good else 'since'} {moment(key.until_us)}"
        is_here = mint.secrets.secret(key.kid) is not None
        if signs and is_here and key.until_us is None and key.algorithm == mint.settings.algorithm:
            until, signs = ", and new ones made with it", False
        rows.append((key.kid, key.algorithm, f"{state}{until}", "yes" if is_here else "no", moment(key.created_at_us)))
    if rows:
        print_table(("key", "algorithm", "its tokens are", "secret here", "made"), rows)
    else:
        print("No key was made yet; the first `tollhouse token create` makes one.")
    if mint.settings.secret is not None:
        say("New tokens are signed with the secret of the configuration (auth.jwt.secret).")


def mint_of(register: Register) -> "Mint":
    """What tokens are made with on this machine, as the configuration says."""
    from tollhouse.config.schema import JwtSettings
    from tollhouse.policy.tokens.issuing import Mint
    from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path

    settings = None if register.config is None else register.config.auth.jwt
    return Mint(settings or JwtSettings(), SecretsFile(secrets_path(os.environ, Path.home())))


def _state_of(token: "Token", now_us: int) -> str:
    ends = [at_us for at_us in (token.expires_at_us, token.key_until_us) if at_us is not None]
    return state_of(token.revoked_at_us, min(ends, default=None), now_us)


def _take_back(register: Register, jti: str) -> None:
    """A token that nobody got is of no use to anybody but a thief."""
    from tollhouse.errors import TollhouseError
    from tollhouse.policy.tokens.issuing import revoke_token

    with suppress(TollhouseError):  # the first failure is the one to tell
        register.write(lambda desk: revoke_token(desk, jti))
