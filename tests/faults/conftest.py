"""What the fault tests share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests import `faultstand` from beside this file; importmode=importlib adds no path by itself.
sys.path.insert(0, str(Path(__file__).parent))

from faultstand import Nursery, RealStand, Stand
from tally import Tally

from virlet.fake.programs import install


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    one = Nursery()
    yield one
    one.close()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the fake QEMU and passt under the real ones' names."""
    path = tmp_path_factory.mktemp("fakes")
    install(path / "qemu-system-x86_64", "qemu", {"links": "say"})
    install(path / "passt", "passt")
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs are probed once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def stand(request: pytest.FixtureRequest, nursery: Nursery, programs: Path, cache: Path) -> Iterator[Stand]:
    one = Stand(nursery, programs, cache, request.node.user_properties)
    yield one
    one.close()


@pytest.fixture(scope="session")
def real_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the real ones."""
    path = tmp_path_factory.mktemp("real")
    for name in ("qemu-system-x86_64", "passt"):
        found = shutil.which(name, path="/usr/bin")
        assert found is not None, f"{name} is not installed"
        (path / name).symlink_to(found)
    return path


@pytest.fixture
def real(request: pytest.FixtureRequest, nursery: Nursery, real_programs: Path, cache: Path) -> Iterator[Stand]:
    one = RealStand(nursery, real_programs, cache, request.node.user_properties)
    yield one
    one.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what became of the guest at each point."""
    tally = Tally()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                tally.add(report.user_properties, passed=report.passed, seconds=report.duration)
    lines = list(tally.lines())
    if lines:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(lines))
