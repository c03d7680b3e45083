"""Ask passt what it knows (``--help``), and find out by a real start whether it may run here."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

from virlet.engine.probe.run import Outcome, run
from virlet.errors import OperationTimeout, SystemFailure
from virlet.paths import program
from virlet.plan.facts import PasstFacts, Support

__all__ = ["parse_options", "probe_passt"]

_OPTION = re.compile(r"^\s+(?:-\w,\s+)?--([a-z0-9][a-z0-9-]*)(.*)$", re.MULTILINE)
_NOISE = re.compile(r"^Failed to send \d+ bytes to syslog\n?", re.MULTILINE)
"""What passt of 2023 says at every line where there is no syslog."""

_NO_UPLINK = "External interface not usable"
"""The last words of a passt of 2023 on a host without a default route."""
_UNTRIED = Support(True, "it can be tried when the host has a default route")

_TRIAL = ("--foreground", "--quiet", "--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2")


async def probe_passt(path: Path) -> PasstFacts:
    """What the passt at *path* can do.  A passt that may not run is an answer, not an error.

    :raises SystemFailure: it cannot be executed at all.
    """
    text, version, trial, no_route, bound = await asyncio.gather(
        run((str(path), "--help"), "passt --help"),
        run((str(path), "--version"), "passt --version"),
        _try((str(path),)),
        _try_without_route(path),
        # Port 1 is root's: a passt that understands it fails to listen there, and nothing is bound meanwhile.
        _try((str(path),), "--tcp-ports", "%lo/1"),
    )
    # Both outputs: passt of 2023 prints its help as errors, and exits 1.
    options, address = parse_options(text.text)
    no_uplink = not trial.ok and _NO_UPLINK in trial.text
    return PasstFacts(
        path=str(path),
        options=options,
        may_run=_UNTRIED if no_uplink else _judge(trial),
        needs_route=no_uplink or (trial.ok and no_route is not None and not no_route.ok),
        link_needs_address="Invalid port specifier" in bound.text,
        prefix_in_address="/" in address,
        version=version.text.partition("\n")[0].strip(),
    )


def parse_options(text: str) -> tuple[frozenset[str], str]:
    """The long options of a ``--help``, and what follows ``--address`` in it."""
    found = _OPTION.findall(_NOISE.sub("", text))
    return frozenset(name for name, _ in found), next((rest for name, rest in found if name == "address"), "")


async def _try(prefix: tuple[str, ...], *more: str) -> Outcome:
    """Start it on a connection whose other end has hung up already: one that may run ends at once, with status 0."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_RDWR)
        fd = theirs.fileno()
        return await run((*prefix, *_TRIAL, *more, "--fd", str(fd)), "trial of passt", fds=(fd,))


async def _try_without_route(path: Path) -> Outcome | None:
    """The same in a network namespace of its own, which has no route; None where that cannot be had."""
    unshare = program("unshare")
    if unshare is None:
        return None
    inside = (unshare, "--map-current-user", "--net")
    try:
        if not (await run((*inside, "true"), "trial of unshare")).ok:
            return None
        return await _try((*inside, str(path)))
    except (SystemFailure, OperationTimeout):
        return None


def _judge(trial: Outcome) -> Support:
    if trial.ok:
        return Support(True, "passt was started for a moment")
    said = _NOISE.sub("", trial.text).strip().splitlines()
    reason = said[-1] if said else f"passt ended with {trial.status}"
    if "user namespace" in trial.text or "unshare" in trial.text:
        hint = "passt needs user namespaces; a container or the distribution forbids them (user.max_user_namespaces, "
        return Support(False, reason, hint + "kernel.apparmor_restrict_unprivileged_userns, seccomp)")
    return Support(False, reason, "start it by hand to see more: passt --foreground")
