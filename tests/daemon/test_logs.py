"""The daemon's log file stays small."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from virlet.daemon import logs


@pytest.fixture
def root():
    found = logging.getLogger()
    handlers, level = list(found.handlers), found.level
    yield found
    for handler in [each for each in found.handlers if each not in handlers]:
        found.removeHandler(handler)
        handler.close()
    found.setLevel(level)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 1000)
    monkeypatch.setattr("sys.excepthook", None)


def test_a_full_log_becomes_an_older_one_and_the_oldest_goes(root, small, tmp_path: Path) -> None:
    path = tmp_path / "virletd.log"
    logs.start_logging(path, verbose=False)
    for number in range(100):
        logging.getLogger("virlet.test").info("%04d %s", number, "x" * 80)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["virletd.log", "virletd.log.1", "virletd.log.2", "virletd.log.3"]
    assert all(each.stat().st_size < 1200 for each in tmp_path.iterdir())
    kept = [line.split(": ")[1][:4] for name in reversed(names) for line in (tmp_path / name).read_text().splitlines()]
    assert kept == [f"{number:04d}" for number in range(100 - len(kept), 100)]


def test_a_log_that_somebody_moved_away_is_opened_anew(root, small, tmp_path: Path) -> None:
    path = tmp_path / "virletd.log"
    logs.start_logging(path, verbose=False)
    logging.getLogger("virlet.test").warning("one")
    path.rename(tmp_path / "moved")
    logs.reopen()
    logging.getLogger("virlet.test").warning("two")
    assert "one" in (tmp_path / "moved").read_text()
    assert "two" in path.read_text()


def test_a_log_that_cannot_be_written_is_told_once_and_harms_nobody(
    root, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "virletd.log"
    logs.start_logging(path, verbose=False)
    path.mkdir()
    for _ in range(3):
        logging.getLogger("virlet.test").info("lost")
    assert capsys.readouterr().err == f"virletd: messages are lost, for {path} cannot be written: Is a directory\n"
    path.rmdir()
    logging.getLogger("virlet.test").info("kept")
    first, second = path.read_text().splitlines()
    assert first.endswith("kept")
    assert second == "(3 messages before that one could not be written)"


def test_a_full_disk_does_not_reach_who_has_something_to_say(
    root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.excepthook", None)
    logs.start_logging(Path("/dev/full"), verbose=False)
    for _ in range(3):
        logging.getLogger("virlet.test").info("lost")
    said = "virletd: messages are lost, for /dev/full cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said


def test_arguments_that_do_not_fit_are_a_bug_that_is_seen(
    root, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start_logging(tmp_path / "virletd.log", verbose=False)
    root.handlers[-1].handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "Logging error" in capsys.readouterr().err
