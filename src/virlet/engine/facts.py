"""Gather the facts that plans are made of: this host, its QEMUs, its passt; everything at once, and remembered."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from virlet import __version__
from virlet.engine.probe.cache import NOTHING, Cache, file_key
from virlet.engine.probe.host import probe_host
from virlet.engine.probe.kvm import probe_kvm
from virlet.engine.probe.passt import probe_passt
from virlet.engine.probe.qemu import probe_qemu
from virlet.engine.probe.security import probe_security
from virlet.engine.probe.slirp import missing, own_helper, probe_slirp_helper
from virlet.errors import SystemFailure, VirletError
from virlet.paths import program
from virlet.plan.facts import Facts, HostFacts, PasstFacts, QemuFacts, SlirpHelperFacts, Support
from virlet.proc.identity import boot_id

__all__ = ["SLIRP_HELPER", "emulators", "gather", "probe_emulator", "probe_other_passt"]

log = logging.getLogger(__name__)

SLIRP_HELPER = "VIRLET_SLIRP_HELPER"
"""Environment variable: path of another slirp helper than virlet's own; the setting ``slirp_helper`` sets it."""
_ELSEWHERE = ("/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm")
"""Where distributions that build one QEMU, for the host alone, put it."""


def emulators(arch: str) -> list[Path]:
    """The QEMUs of this host for *arch* (libvirt's name), the one to prefer first."""
    target = {"i686": "i386", "armv7l": "arm"}.get(arch, arch)
    if "/" in target:
        return []
    found = program(f"qemu-system-{target}")
    candidates = [*([found] if found else []), *_ELSEWHERE]
    return [Path(each) for each in candidates if os.access(each, os.X_OK)]


async def gather(remembered: Cache = NOTHING, more: Sequence[Path] = ()) -> Facts:
    """All facts: 0.3 s the first time, a few milliseconds when they are *remembered*.

    Besides the host's own QEMU those of *more* are asked.  A program that cannot be asked is reported in the log and
    left out; nothing is raised for it.
    """
    host = probe_host(Support(False, "there is no emulator to try KVM with"))
    paths = list(dict.fromkeys([*emulators(host.arch), *more]))
    passt, slirp_helper, qemus = await asyncio.gather(
        _passt(host, remembered),
        _slirp_helper(remembered),
        asyncio.gather(*(_qemu(path, remembered) for path in paths)),
    )
    known = {qemu.path: qemu for qemu in qemus if qemu is not None}
    for qemu in known.values():
        if qemu.arch == host.arch:
            host = probe_host(await _kvm(qemu, remembered))
            break
    return Facts(host, known, passt, slirp_helper, security=probe_security())


async def probe_emulator(path: Path, remembered: Cache = NOTHING) -> QemuFacts:
    """The facts of one QEMU, for a domain that names an emulator of its own.

    :raises SystemFailure: there is none, or it cannot be run.
    :raises InternalError: it is no QEMU, or fails to answer.
    """
    try:
        key = file_key(path)
    except OSError as error:
        raise SystemFailure.of(error, f"Cannot check QEMU binary {path}") from error
    return await remembered.get(QemuFacts, "qemu", key, partial(probe_qemu, path))


async def _qemu(path: Path, remembered: Cache) -> QemuFacts | None:
    try:
        return await remembered.get(QemuFacts, "qemu", file_key(path), partial(probe_qemu, path))
    except (VirletError, OSError) as error:
        log.warning("%s is left out: %s", path, error)
        return None


async def _passt(host: HostFacts, remembered: Cache) -> PasstFacts | None:
    found = program("passt")
    if found is None:
        return None
    path = Path(found)
    # Whether it may run depends on the running system, and for an old one on the routes.
    try:
        key = [*file_key(path), boot_id(), sorted({family for family, _ in host.uplinks.routes})]
        return await remembered.get(PasstFacts, "passt", key, partial(probe_passt, path))
    except (VirletError, OSError) as error:
        log.warning("%s is left out: %s", path, error)
        return None


async def probe_other_passt(path: str, remembered: Cache = NOTHING) -> PasstFacts:
    """The facts of a passt that an interface names; one that cannot be asked may not run, and says why."""
    try:
        key = [*file_key(Path(path)), boot_id()]
        return await remembered.get(PasstFacts, "passt", key, partial(probe_passt, Path(path)))
    except VirletError as error:
        return PasstFacts(path, frozenset(), Support(False, str(error)))
    except OSError as error:
        return PasstFacts(path, frozenset(), Support(False, f"'{path}': {error.strerror}"))


async def _slirp_helper(remembered: Cache) -> SlirpHelperFacts:
    configured = os.environ.get(SLIRP_HELPER)
    command = (configured,) if configured else own_helper()
    try:
        # A "no" is not remembered: libslirp may be installed at any time.
        key = [*file_key(Path(command[0])), __version__]
        return await remembered.get(SlirpHelperFacts, "slirp-helper", key, partial(probe_slirp_helper, command))
    except VirletError as error:
        return missing(command, error.detail)
    except OSError as error:
        return missing(command, f"{command[0]}: {error.strerror}")


async def _kvm(qemu: QemuFacts, remembered: Cache) -> Support:
    if "kvm" not in qemu.accels:
        return Support(False, f"{qemu.path} was built without KVM")
    path = Path(qemu.path)
    try:
        key = [*file_key(path), boot_id(), os.access("/dev/kvm", os.R_OK | os.W_OK)]
        return await remembered.get(Support, "kvm", key, partial(probe_kvm, qemu))
    except (VirletError, OSError) as error:
        return Support(False, f"KVM could not be tried: {error}")
