"""What every test gets: proof that it left no process and no descriptor; and what a skip may be, and soaking."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import settings

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_MS = 20_000
"""How long a process that was told to end may take on a busy machine; one that stays fails the test all the same."""


def pytest_configure() -> None:
    # Whatever a test's child leaves behind becomes our child, so that it is seen; like an init that reaps nothing.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A shared, slow machine says nothing about a property; and the tree may be another user's.
    settings.register_profile("virlet", database=None, deadline=None)
    settings.load_profile("virlet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under script/soak every property is tried VIRLET_SOAK times as often as its test says."""
    factor = int(os.environ.get("VIRLET_SOAK", "1"))
    for item in items:
        test = getattr(item, "obj", None)
        # hypothesis documents no way to change the settings that a test was given; this is where it keeps them.
        given = getattr(test, "_hypothesis_internal_use_settings", None)
        if factor > 1 and isinstance(given, settings):
            test = getattr(test, "__func__", test)
            test._hypothesis_internal_use_settings = settings(given, max_examples=given.max_examples * factor)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip is a failure: it would hide a missing program.  What another machine shows says "elsewhere: …"."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith("elsewhere: "):
            report.outcome, report.longrepr = "failed", f"nothing may be skipped in CI: {reason}"
    return report


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
    return found


def children() -> dict[int, str]:
    """Every child of this process that still runs (orphans of children included) and its name."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # A thread that has just ended.
        for pid in pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # A thread of asyncio's has just waited for it.
            if stat[stat.rindex(")") + 2] not in "ZX":
                found[int(pid)] = stat[stat.index("(") : stat.rindex(")") + 1]
    return found


def _outlived(pid: int) -> bool:
    """Wait a little for the end of *pid*; if it does not come, bring it about."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        outlived = not poll.poll(_GRACE_MS)
        if outlived:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return outlived
    finally:
        os.close(pidfd)


@contextmanager
def _no_process() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, before)


@pytest.fixture
def no_process() -> Callable[[], AbstractContextManager[None]]:
    """``with no_process():`` this user has as many processes and threads as it may."""
    if os.geteuid() == 0:
        pytest.skip("elsewhere: root may have as many as it likes")
    return _no_process


@contextmanager
def _no_descriptor() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # Else it may close, in the midst of it, what nobody can reach any more.
    # One more than the highest number there is: what is closed can be opened again, the highest one too.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        yield


@pytest.fixture
def no_descriptor() -> Callable[[], AbstractContextManager[None]]:
    """``with no_descriptor():`` this process has as many files open as it may; which it closes it may open again."""
    return _no_descriptor


class Clock:
    """The time of a loop, in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        """Let time pass: what is due by then is done in the loop's next turn."""
        self.now += seconds


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """For this test's loop time passes only when it is told to: a machine that stops for a while misses nothing."""
    loop = asyncio.get_running_loop()
    made = Clock(loop.time())
    monkeypatch.setattr(loop, "time", lambda: made.now)
    return made


@pytest.fixture
def leaks_allowed() -> None:
    """Ask for this in a test that leaves something running on purpose (a fixture of wider scope ends it)."""


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a running process or an open descriptor."""
    descriptors, processes = open_descriptors(), children()
    yield
    if "leaks_allowed" in request.fixturenames:
        return
    left = {pid: name for pid, name in children().items() if pid not in processes and _outlived(pid)}
    assert not left, f"processes left running: {left}"
    if open_descriptors().keys() - descriptors.keys():
        gc.collect()  # Only what nobody can reach any more may close itself late.
    opened = {fd: what for fd, what in open_descriptors().items() if fd not in descriptors}
    assert not opened, f"descriptors left open: {opened}"
