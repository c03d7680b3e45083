"""A backend of somebody else's: installed by pip, found by its entry point, held to the kit, chosen by virletd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "outside"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which pip has put it, without a network."""
    target = tmp_path_factory.mktemp("outside")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "--no-cache-dir", "install"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, *offline, "--target", str(target), str(PACKAGE)], check=True, timeout=100)
    return target


def authors_tests(installed: Path, *options: str) -> str:
    """What pytest says in the end of the author's own tests, with the package importable and nothing of ours loaded."""
    (installed / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(installed / "pytest.ini"), "-rs"]
        + ["--confcutdir", str(PACKAGE), "--import-mode=importlib", str(PACKAGE / "check_quiet.py"), *options],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
    return done.stdout


def test_it_is_found_and_passes_the_kit(installed: Path) -> None:
    assert "passed" in authors_tests(installed, "-k", "not Live")


@pytest.mark.e2e
@pytest.mark.timeout(420)
def test_a_guest_boots_on_it(installed: Path) -> None:
    assert "2 passed" in authors_tests(installed, "-k", "Live")


def test_without_it_its_name_is_nobodys(tmp_path: Path) -> None:
    code = "from virlet.net.choose import registry; print(registry().get('quiet'))"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.stdout == "None\n"
