"""Where files of a person's configuration lie, and that secrets in them are for their owner alone."""

import os
from pathlib import Path

import pytest

from tollhouse.config.folders import config_folder, make_private_folder, server_folder, write_file


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, "/home/a/.config/tollhouse"),
        ({"XDG_CONFIG_HOME": "/etc/xdg"}, "/etc/xdg/tollhouse"),
        ({"XDG_CONFIG_HOME": "relative"}, "/home/a/.config/tollhouse"),
        ({"XDG_CONFIG_HOME": ""}, "/home/a/.config/tollhouse"),
    ],
)
def test_the_configuration_folder_follows_xdg_and_ignores_relative_paths(environ: dict[str, str], folder: str):
    assert config_folder(environ, Path("/home/a")) == Path(folder)
    assert server_folder(environ, Path("/home/a")) == Path(folder, "server")


def test_folders_and_files_are_for_their_owner_alone(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    write_file(folder / "secret", b"x")
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "secret")] == [0o700, 0o700, 0o600]


def test_a_file_is_replaced_only_when_that_was_asked_for(tmp_path: Path):
    file = tmp_path / "f"
    write_file(file, b"old")
    with pytest.raises(FileExistsError):
        write_file(file, b"new")
    assert file.read_bytes() == b"old"
    write_file(file, b"new", replace=True, mode=0o644)
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)
    file = tmp_path / "secret"
    write_file(file, b"first")
    with pytest.raises(FileExistsError):
        write_file(file, b"second")
    assert file.read_bytes() == b"first"
    assert (file.stat().st_mode & 0o777, list(tmp_path.iterdir())) == (0o600, [file])
