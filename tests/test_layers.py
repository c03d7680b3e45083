"""The layers of the architecture, held mechanically: a module imports only from its own or lower layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "virlet"

LAYER = {
    "errors": 0,
    "fault": 0,
    "lean": 0,
    "enums": 0,
    "paths": 0,
    "plugins": 0,
    "xml": 1,
    "model": 2,
    "wire": 2,
    "plan": 3,
    "net": 3,
    "proc": 4,
    "qmp": 4,
    "slirp": 5,
    "engine": 5,
    "fake": 5,
    "daemon": 6,
    "client": 6,
    "cli": 7,
    "testing": 8,
}
PURE = {"errors", "enums", "xml", "wire", "model", "plan", "net"}
"""Packages that make no effects: they import none of what makes them."""
EFFECTS = {"asyncio", "subprocess", "socket", "selectors", "threading", "multiprocessing"}
ONLY = {
    "client": {"client", "wire", "errors", "enums", "paths"},
    "cli": {"cli", "client", "errors", "enums", "paths"},
    "slirp": {"slirp", "proc", "plan", "errors", "enums"},
}
"""Packages that may import fewer of ours than their layer allows."""
NEVER = {"engine": {"daemon", "client", "slirp"}, "daemon": {"client", "cli"}, "fake": {"daemon", "client"}}

MODULES = sorted(ROOT.rglob("*.py")) + sorted(ROOT.rglob("*.pyi"))


def _package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py").removesuffix(".pyi")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            if node.module == "virlet":
                yield from ((node.lineno, f"virlet.{name.name}") for name in node.names)
            else:
                yield node.lineno, node.module or ""


def _ours(path: Path) -> Iterator[tuple[int, str]]:
    for line, module in _imports(path):
        parts = module.split(".")
        if parts[0] == "virlet" and len(parts) > 1 and parts[1] in LAYER:
            yield line, parts[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_or_lower_layers(path: Path) -> None:
    package = _package(path)
    if package in ("__init__", "py"):
        assert list(_imports(path)) in ([], [(line, "__future__") for line, _ in _imports(path)])
        return
    assert package in LAYER, f"say in LAYER which layer {package} is"
    for line, other in _ours(path):
        place = f"{path}:{line}: {package} imports {other}"
        assert LAYER[other] <= LAYER[package], place
        assert other in ONLY.get(package, LAYER), place
        assert other not in NEVER.get(package, ()), place


@pytest.mark.parametrize(
    "path", [path for path in MODULES if _package(path) in PURE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_pure_layers_make_no_effects(path: Path) -> None:
    found = {module.split(".")[0] for _, module in _imports(path)}
    assert not found & EFFECTS, path
