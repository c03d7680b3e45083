"""Where the daemon's messages go: stderr for the journal, and a rotated file that stays small."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TextIO

__all__ = ["reopen", "start_logging"]

FILE_BYTES = 1024 * 1024
"""Size at which the log file is rotated."""
FILE_COUNT = 3
"""Old log files that are kept."""

_JOURNAL_LEVEL = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Stderr(logging.StreamHandler[TextIO]):
    """One line a record; under systemd each begins with ``<N>``, the priority that the journal reads."""

    def __init__(self, journal: bool) -> None:
        super().__init__(sys.stderr)
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return f"virletd: {text}"
        mark = f"<{_JOURNAL_LEVEL.get(record.levelno, 5)}>"
        return "\n".join(mark + line for line in text.splitlines())


class _RotatedFile(logging.Handler):
    """A file that becomes ``….1`` when it has grown, that ``….2`` and so on.

    ``logging.handlers`` has such a handler, and imports pickle and more for the others that it has: 0.5 MB.  It also
    raises an error of the disk to who has something to say, or prints its traceback at each message; this one says so
    once, and tries again with the next message.
    """

    def __init__(self, path: Path, report: logging.Handler) -> None:
        super().__init__()
        self._path, self._report = path, report
        self._fd = -1
        self._lost = 0
        """Messages that could not be written, since the last one that could."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n"
        except (TypeError, ValueError):  # Arguments that do not fit their message.
            self.handleError(record)
            return
        try:
            self._append(line.encode("utf-8", "backslashreplace"))
            if self._lost:
                self._append(b"(%d messages before that one could not be written)\n" % self._lost)
            self._lost = 0
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                what = f"messages are lost, for {self._path} cannot be written: {error.strerror}"
                self._report.handle(logging.makeLogRecord({"levelno": logging.WARNING, "msg": what}))

    def _append(self, line: bytes) -> None:
        """Raises OSError."""
        if self._fd >= 0 and os.fstat(self._fd).st_size >= FILE_BYTES:
            self.reopen()
            self._rotate()
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while line:
            line = line[os.write(self._fd, line) :]

    def _rotate(self) -> None:
        names = [str(self._path), *(f"{self._path}.{number}" for number in range(1, FILE_COUNT + 1))]
        for newer, older in reversed(list(pairwise(names))):
            with suppress(OSError):  # A log that cannot be rotated is written on.
                os.replace(newer, older)

    def reopen(self) -> None:
        """Open it anew at the next message."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        self.reopen()
        super().close()


def start_logging(path: Path | None, verbose: bool) -> None:
    """Send everything from INFO on (DEBUG when *verbose*) to *path*, and from WARNING on (INFO) to stderr."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    stderr = _Stderr("JOURNAL_STREAM" in os.environ)
    stderr.setLevel(logging.INFO if verbose else logging.WARNING)
    root.addHandler(stderr)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = _RotatedFile(path, stderr)
        file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug that ends the daemon: in the log file too, for stderr may be nowhere."""
    logging.getLogger(__name__).critical("bug: the daemon ends", exc_info=(kind, error, trace))


def reopen() -> None:
    """Open log files anew at the next message (SIGHUP, after somebody moved them away)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _RotatedFile):
            handler.reopen()
