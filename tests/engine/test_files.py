"""Files are whole, private, and nobody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.engine import files
from virlet.engine.files import DurableDir, check_owner, make_private, move_aside, sweep_scratch, write_atomic
from virlet.engine.store import StoredDefinition, parse_definition, print_definition
from virlet.errors import SystemFailure

ID = UUID(int=7)


def test_a_write_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for data in (b"one", b"", b"x" * 100_000):
        write_atomic(path, data, durable=True)
        assert path.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".one.xml.new").write_text("half")
    (tmp_path / "one.xml").write_text("whole")
    (tmp_path / "new").write_text("a user's")
    sweep_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one.xml"]
    sweep_scratch(tmp_path / "nowhere")


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old", durable=False)
    (tmp_path / ".a.new").symlink_to("/dev/full")
    with pytest.raises(SystemFailure, match="cannot write"):
        write_atomic(path, b"new", durable=False)
    assert path.read_bytes() == b"old"


async def test_on_a_slow_disk_writes_go_to_a_thread_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SLOW_DISK", 0.0)
    directory = DurableDir(tmp_path / "d")
    await asyncio.gather(*(directory.write("a", b"%d" % number) for number in range(20)))
    assert (tmp_path / "d" / "a").read_bytes() == b"19"
    await directory.remove("a")
    await directory.remove("a")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_runtime_directory_must_be_ours_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    check_owner(tmp_path / "a" / "b")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for name in ("open", "link"):
        with pytest.raises(SystemFailure, match="not a directory of yours alone"):
            check_owner(tmp_path / name)


def test_a_file_moved_aside_keeps_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"odd")
    assert move_aside(path).read_bytes() == b"odd"
    assert not path.exists()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("0123456789abcdef", max_size=32), st.booleans())
def test_a_definition_comes_back_as_it_was(xml: str, host: str, autostart: bool) -> None:
    stored = StoredDefinition(ID, xml, host, autostart)
    assert parse_definition(ID, print_definition(stored)) == stored


@given(st.binary(max_size=200))
def test_any_other_bytes_are_a_value_error_or_a_definition(data: bytes) -> None:
    try:
        assert parse_definition(ID, data).uuid == ID
    except ValueError:
        return
