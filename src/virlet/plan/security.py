"""What the host's security modules allow, as far as everybody may see it, and what would allow more.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.plan.facts import SecurityFacts, Support

__all__ = ["fetched_anew", "judge_security", "unlock_passt"]


def judge_security(facts: SecurityFacts, passt: Support | None) -> Iterator[tuple[str, Support]]:
    """Each kind of confinement by others: its name, and whether guests' networks work under it; *passt*: may it run?"""
    yield "user namespaces", _user_namespaces(facts)
    yield "AppArmor", _apparmor(facts)
    yield "SELinux", _selinux(facts, passt)
    yield "Yama", _yama(facts)


def fetched_anew(facts: SecurityFacts, *, grants: bool) -> bool:
    """Whether a later virletd may fetch a descriptor from a process that is not its child, which *grants* it or not."""
    return facts.ptrace_scope <= (1 if grants else 0)


def unlock_passt(facts: SecurityFacts) -> str | None:
    """The command that would let a passt run that may not; None where nothing that we can see forbids it."""
    spaces = _user_namespaces(facts)
    return spaces.hint if not spaces.ok else None


def _user_namespaces(facts: SecurityFacts) -> Support:
    """passt makes one to shut itself in."""
    if facts.userns_most == 0:
        return Support(False, "user.max_user_namespaces is 0", _root("sysctl -w user.max_user_namespaces=10000"))
    if not facts.userns_clone:
        reason = "kernel.unprivileged_userns_clone is 0"
        return Support(False, reason, _root("sysctl -w kernel.unprivileged_userns_clone=1"))
    if not facts.userns_by_profile:
        return Support(True, "every program may make them")
    if facts.passt_profile:
        return Support(True, f"only programs with a profile may make them; passt's is {facts.passt_profile}")
    return Support(
        False,
        "AppArmor lets only programs with a profile make them, and passt has none",
        _root("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
        + ", or install the passt of your distribution, which brings its profile",
    )


def _apparmor(facts: SecurityFacts) -> Support:
    if not facts.apparmor:
        return Support(True, "not in force")
    if not facts.passt_profile:
        return Support(True, "in force, without a profile for passt")
    return Support(
        True,
        f"in force; {facts.passt_profile} lets passt open files in your home and in /tmp alone: keep a pcap-file there"
        " (sockets and logs it is handed open)",
    )


def _selinux(facts: SecurityFacts, passt: Support | None) -> Support:
    if not facts.selinux:
        return Support(True, "not in force")
    policy = "with a policy for passt" if facts.passt_policy else "without a policy for passt"
    said = f"{facts.selinux}, {policy}"
    if facts.selinux == "enforcing" and passt is not None and not passt.ok:
        return Support(
            False,
            f"{said}, and passt may not run",
            _root("ausearch -m avc -ts recent -c passt | audit2allow -M passt1"),
        )
    return Support(True, said)


def _yama(facts: SecurityFacts) -> Support:
    """A later daemon fetches the slirp helper's socket, from the helper or from QEMU, which grants it to nobody."""
    said = f"kernel.yama.ptrace_scope is {facts.ptrace_scope}"
    if fetched_anew(facts, grants=False):
        return Support(True, "lets the next virletd fetch what helpers share with QEMU")
    if fetched_anew(facts, grants=True):
        return Support(
            True,
            f"{said}: the next virletd fetches the socket of virlet's own slirp helper from it; where one dies while no"
            " virletd runs, the guest's interface is plugged in anew",
        )
    return Support(
        False,
        f"{said}: where a slirp helper dies after virletd was started anew, the guest's interface is plugged in anew",
        f"{_root('sysctl -w kernel.yama.ptrace_scope=1')} (3 can only be left by a reboot); or use passt",
    )


def _root(command: str) -> str:
    return f"let root run: {command}"
