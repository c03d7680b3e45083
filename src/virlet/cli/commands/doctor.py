"""``virlet doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from virlet.cli.app import App
from virlet.cli.exits import Exit
from virlet.cli.root import command, pass_app

__all__ = ["doctor"]

_NO_PASST = {"ok": False, "reason": "not installed", "hint": "install the package 'passt', the better user network"}

Row = tuple[str, str, object, object]


@command()
@pass_app
def doctor(app: App) -> None:
    """Say what works on this host, and what to do about the rest.

    The columns are: ok or no, what, the reason or what was found, the next step. Exit code 1 means that no guest can be
    started here.
    """
    with app.connection() as server:
        answer = server.doctor()
    if app.as_json:
        app.output.document(answer)
    else:
        app.output.table(("", "WHAT", "FOUND", "NEXT STEP"), list(_rows(answer)))
    if not answer.get("qemu"):
        raise SystemExit(Exit.FAILED)


def _rows(answer: Mapping[str, object]) -> Iterator[Row]:
    """Verdicts of the server, one a line."""
    host = _mapping(answer.get("host"))
    yield _verdict("KVM", host.get("kvm"))
    qemus = answer.get("qemu")
    for qemu in map(_mapping, qemus if isinstance(qemus, list) else []):
        yield "ok", f"QEMU {qemu.get('arch')}", f"{qemu.get('path')} {qemu.get('version')}", None
        for name, verdict in _mapping(qemu.get("networks")).items():
            yield _verdict(f"network {name} ({qemu.get('arch')})", verdict)
    passt = _mapping(answer.get("passt"))
    yield _verdict("passt", passt or _NO_PASST, passt.get("path"))
    yield from _host(answer)
    problems = answer.get("problems")
    for problem in problems if isinstance(problems, list) else []:
        yield "no", "problem", problem, None
    if not qemus:
        yield "no", "QEMU", "there is none in PATH", "install a package such as 'qemu-system-x86'"


def _host(answer: Mapping[str, object]) -> Iterator[Row]:
    if "confinement" in answer:
        yield _verdict("QEMU confined to its files", answer["confinement"])
    for name, verdict in _mapping(answer.get("security")).items():
        yield _verdict(name, verdict)
    if "ping" in answer:
        may = bool(answer["ping"])
        step = None if may else "add your group to the sysctl net.ipv4.ping_group_range"
        yield "ok" if may else "no", "guests can ping", None, step
    if "lowest_port" in answer:
        yield "ok", "lowest port to forward", answer["lowest_port"], None
    for name, path in _mapping(answer.get("directories")).items():
        yield "ok", f"{name} directory", path, None


def _verdict(what: str, verdict: object, found: object = None) -> Row:
    said = _mapping(verdict)
    return "ok" if said.get("ok") else "no", what, said.get("reason") or found, said.get("hint")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
