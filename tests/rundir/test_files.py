"""Files that others rely on: whole, durable, and as they were where writing fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmatic_hpc.rundir.files import append_line, keep_previous, write_atomically


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("content", ["text: é\n", b"\0\xff bytes"])
def test_a_file_is_replaced_and_nothing_else_left(
    tmp_path: Path, content: str | bytes, shared: bool
) -> None:
    """Text or bytes, by one writer or several."""
    path = tmp_path / "file"
    for _ in range(2):
        write_atomically(path, content, shared=shared)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_in_that_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the content, then the name."""
    path, synced = tmp_path / "file", list[tuple[str, bool]]()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(path, "new")
    assert synced == [(f"{path}.tmp", False), (str(tmp_path), True)]


@pytest.mark.parametrize("where", ["fsync", "replace", "check"])
def test_what_fails_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A full disk, or a check that finds fault with what was written."""
    path = tmp_path / "file"
    write_atomically(path, "former")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if where != "check":
            patched.setattr(os, where, fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, "new", check=fail if where == "check" else None)
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_check_sees_what_was_written_before_anybody_else_does(tmp_path: Path) -> None:
    """It gets the new content while the name still means the former."""
    path, seen = tmp_path / "file", list[str]()
    write_atomically(path, "former")
    write_atomically(
        path, "new", check=lambda beside: seen.extend([beside.read_text(), path.read_text()])
    )
    assert seen == ["new", "former"]


@pytest.mark.parametrize("torn", ["", "a\n", "a\nb", '{"eve'])
def test_a_torn_line_spoils_no_other(tmp_path: Path, torn: str) -> None:
    """The rest of a line that a kill left stays a line of its own."""
    path = tmp_path / "lines"
    path.write_text(torn)
    append_line(path, "c")
    append_line(path, "d")
    assert path.read_text().splitlines() == [*torn.splitlines(), "c", "d"]


@pytest.mark.parametrize("links", [True, False])
def test_the_previous_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also on a file system without hard links; and without a file there is nothing to keep."""
    path, previous = tmp_path / "file", tmp_path / "previous"

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    keep_previous(path, previous)
    assert not previous.exists()
    for text in ("one", "two"):
        write_atomically(path, text)
        keep_previous(path, previous)
        assert previous.read_text() == text
    assert sorted(tmp_path.iterdir()) == [path, previous]
