"""Profiles on disk: written whole, secrets apart and private, and read strictly."""

import os
import stat
from pathlib import Path

import pytest

from tollhouse.client.failures import BadSettings
from tollhouse.client.files import UnsafeFile
from tollhouse.client.profiles import Profile, ProfileStore, client_folder
from tollhouse.config.secret import Secret

TOKEN = "th-secret-of-the-profile"


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(client_folder({"XDG_CONFIG_HOME": str(tmp_path)}, Path("/nowhere")))


def work(**values: str) -> Profile:
    return Profile("work", {"url": "https://gw.example", **values})


def test_the_folder_is_where_xdg_says(tmp_path: Path):
    assert client_folder({"XDG_CONFIG_HOME": "/x"}, tmp_path) == Path("/x/tollhouse/client")
    assert client_folder({"XDG_CONFIG_HOME": "x"}, tmp_path) == tmp_path / ".config/tollhouse/client"
    assert client_folder({}, tmp_path) == tmp_path / ".config/tollhouse/client"


def test_there_are_no_profiles_without_a_file(store: ProfileStore):
    profiles = store.read()

    assert (profiles.active, dict(profiles.by_name)) == (None, {})


def test_a_profile_comes_back_as_it_was_saved(store: ProfileStore):
    profile = Profile("work", {"url": "https://gw.example", "fallback_models": ("a", "b/c"), "retries": 3})
    store.save(profile, token=Secret(TOKEN), activate=True)

    profiles = store.read()
    assert profiles.active == "work"
    assert profiles.by_name == {"work": profile}
    assert store.token(profile) == Secret(TOKEN)


def test_the_token_is_in_a_file_of_its_own_that_nobody_else_can_read(store: ProfileStore):
    store.save(work(), token=Secret(TOKEN), activate=True)

    secret = store.secret_file("work")
    assert secret.parent.name == "server-secrets"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (secret, secret.parent, store.file, store.file.parent)] == [
        0o600,
        0o700,
        0o600,
        0o700,
    ]
    assert TOKEN not in store.file.read_text()


def test_a_token_that_others_can_read_is_not_used(store: ProfileStore):
    store.save(work(), token=Secret(TOKEN), activate=True)
    store.secret_file("work").chmod(0o640)

    with pytest.raises(UnsafeFile, match="chmod 600") as caught:
        store.token(work())
    assert TOKEN not in str(caught.value)


def test_a_token_file_that_the_user_names_is_used_in_its_place(store: ProfileStore, tmp_path: Path):
    named = tmp_path / "mounted"
    named.write_text(f" {TOKEN}-2\n")
    named.chmod(0o644)

    assert store.token(work(token_file=str(named))) == Secret(f"{TOKEN}-2")


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\nb\n", b"\xff\xfe", b"x" * 70_000])
def test_a_token_file_holds_one_token_and_nothing_else(store: ProfileStore, tmp_path: Path, content: bytes):
    named = tmp_path / "mounted"
    named.write_bytes(content)

    with pytest.raises(UnsafeFile):
        store.token(work(token_file=str(named)))


def test_saving_again_without_a_token_forgets_the_old_one(store: ProfileStore):
    store.save(work(), token=Secret(TOKEN), activate=True)
    store.save(work(), token=None, activate=True)

    assert store.token(work()) is None


def test_removing_a_profile_removes_its_token_and_its_being_active(store: ProfileStore):
    store.save(work(), token=Secret(TOKEN), activate=True)
    store.save(Profile("home", {"url": "http://localhost:8080"}), token=None, activate=False)
    assert store.read().active == "work"

    store.remove("work")

    assert store.read().active is None
    assert list(store.read().by_name) == ["home"]
    assert not store.secret_file("work").exists()


def test_activating_what_is_not_there_names_what_is(store: ProfileStore):
    store.save(work(), token=None, activate=False)

    with pytest.raises(BadSettings, match=r"no profile 'wrok'.*: work\."):
        store.activate("wrok")
    store.activate("work")
    assert store.read().active == "work"
    store.activate(None)
    assert store.read().active is None


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "-x", "a b", "x" * 65])
def test_a_name_that_could_leave_the_folder_is_refused(store: ProfileStore, name: str):
    with pytest.raises(BadSettings, match="profile's name"):
        store.save(Profile(name, {"url": "https://gw"}), token=Secret(TOKEN), activate=True)
    assert not store.file.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("active: [", "not YAML"),
        ("- a", "`active` and `profiles`"),
        ("profiles: [a]", "profiles by name"),
        ("activ: x", "activ: There is no such entry"),
        ("active: x", "There is no profile 'x'"),
        ("profiles: {a: x}", "profiles.a"),
        ("profiles: {../x: {url: y}}", "cannot be a profile's name"),
        ("profiles: {a: {url: {b: c}}}", "profiles.a.url"),
    ],
)
def test_a_file_that_says_something_else_is_refused(store: ProfileStore, text: str, says: str):
    store.file.parent.mkdir(parents=True)
    store.file.write_text(text)

    with pytest.raises(BadSettings) as caught:
        store.read()
    assert says in str(caught.value)
    assert str(store.file) in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file(store: ProfileStore, monkeypatch: pytest.MonkeyPatch):
    store.save(work(), token=None, activate=True)
    before = store.file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device", str(store.file))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadSettings, match="No space left"):
        store.save(Profile("other", {"url": "https://x"}), token=None, activate=True)

    assert store.file.read_bytes() == before
    assert sorted(path.name for path in store.file.parent.iterdir()) == [".lock", "config.yaml"]
