"""Which database an address names, how it is shown, and where its journal is."""

from pathlib import Path

import pytest

from tollhouse.errors import ConfigError
from tollhouse.ledger.address import is_postgresql, journal_name, shown, sqlite_path, state_folder

POSTGRES = "postgresql://me:hunter2@db.example.org:5433/books?sslmode=require"


def test_an_address_names_a_file_relative_or_absolute() -> None:
    assert sqlite_path("sqlite:///tollhouse.db") == Path("tollhouse.db")
    assert sqlite_path("sqlite:////var/lib/t.db") == Path("/var/lib/t.db")


@pytest.mark.parametrize(
    "address", ["", "tollhouse.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://x/y", "sqlite:///a?b=c"]
)
def test_any_other_address_is_refused_with_the_right_form(address: str) -> None:
    with pytest.raises(ConfigError, match=r"Write sqlite:///tollhouse\.db"):
        sqlite_path(address)


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        sqlite_path("mysql://user:hunter2@host/ledger")

    assert "hunter2" not in str(caught.value)


def test_an_address_is_shown_without_user_password_and_query() -> None:
    assert is_postgresql(POSTGRES)
    assert shown(POSTGRES) == "postgresql://***@db.example.org:5433/books?***"
    assert shown("sqlite:////var/lib/t.db") == "/var/lib/t.db"


def test_the_state_folder_is_the_configured_one_or_that_of_the_file_or_the_user_s() -> None:
    assert state_folder(POSTGRES, "/srv/state", {}) == Path("/srv/state")
    assert state_folder("sqlite:////var/lib/t.db", None, {}) == Path("/var/lib")
    assert state_folder(POSTGRES, None, {"XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}) == Path("/xdg/tollhouse")
    assert state_folder(POSTGRES, None, {"XDG_STATE_HOME": "relative", "HOME": "/home/me"}) == Path(
        "/home/me/.local/state/tollhouse"
    )


def test_two_databases_never_share_a_journal_and_a_new_password_keeps_it() -> None:
    assert journal_name("sqlite:////var/lib/t.db") == "t.db"
    assert journal_name(POSTGRES) == journal_name(POSTGRES.replace("hunter2", "hunter3"))
    assert journal_name(POSTGRES) != journal_name(POSTGRES.replace("/books", "/others"))
    assert journal_name(POSTGRES) != journal_name(POSTGRES.replace("5433", "5434"))
