"""Which security modules are in force, and what everybody may see of their rules; read in a tenth of a millisecond."""

from __future__ import annotations

from pathlib import Path

from virlet.plan.facts import SecurityFacts

__all__ = ["probe_security"]

_PROFILES = ("etc/apparmor.d/usr.bin.passt", "etc/apparmor.d/passt")
_POLICIES = "usr/share/selinux/packages"


def probe_security(root: Path = Path("/")) -> SecurityFacts:
    """Look around below *root*; what cannot be read is taken as not there."""
    modules = tuple(name for name in _read(root / "sys/kernel/security/lsm").strip().split(",") if name)
    most = _read(root / "proc/sys/user/max_user_namespaces").strip()
    scope = _read(root / "proc/sys/kernel/yama/ptrace_scope").strip()
    return SecurityFacts(
        modules=modules,
        apparmor=_read(root / "sys/module/apparmor/parameters/enabled").strip() == "Y",
        passt_profile=next((f"/{name}" for name in _PROFILES if (root / name).is_file()), ""),
        userns_by_profile=_read(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1",
        userns_most=int(most) if most.isdecimal() else None,
        userns_clone=_read(root / "proc/sys/kernel/unprivileged_userns_clone").strip() != "0",
        selinux={"1": "enforcing", "0": "permissive"}.get(_read(root / "sys/fs/selinux/enforce").strip(), ""),
        ptrace_scope=int(scope) if scope.isdecimal() else 0,
        passt_policy=next((root / _POLICIES).glob("**/passt.pp*"), None) is not None,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
