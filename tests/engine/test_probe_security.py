"""Facts of security modules, read from made-up hosts."""

from __future__ import annotations

from pathlib import Path

from virlet.engine.probe.security import probe_security
from virlet.plan.facts import SecurityFacts


def host(root: Path, **files: str) -> Path:
    """A root with these files; ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_kernel_without_any(tmp_path: Path) -> None:
    assert probe_security(tmp_path) == SecurityFacts()


def test_an_ubuntu_that_restricts_user_namespaces(tmp_path: Path) -> None:
    root = host(
        tmp_path,
        sys__kernel__security__lsm="lockdown,capability,landlock,yama,apparmor",
        sys__module__apparmor__parameters__enabled="Y\n",
        proc__sys__kernel__apparmor_restrict_unprivileged_userns="1\n",
        proc__sys__user__max_user_namespaces="63000\n",
        etc__apparmorDOTd__usrDOTbinDOTpasst="profile passt",
    )
    found = probe_security(root)
    assert found.modules[-1] == "apparmor"
    assert found.apparmor
    assert found.userns_by_profile
    assert found.userns_most == 63000
    assert found.passt_profile == "/etc/apparmor.d/usr.bin.passt"
    assert found.selinux == ""


def test_a_fedora_that_enforces(tmp_path: Path) -> None:
    root = host(
        tmp_path, sys__fs__selinux__enforce="1", usr__share__selinux__packages__targeted__passtDOTppDOTbz2="policy"
    )
    found = probe_security(root)
    assert (found.selinux, found.passt_policy) == ("enforcing", True)
    (root / "sys/fs/selinux/enforce").write_text("0")
    assert probe_security(root).selinux == "permissive"


def test_a_hardened_kernel(tmp_path: Path) -> None:
    root = host(tmp_path, proc__sys__kernel__unprivileged_userns_clone="0\n", proc__sys__user__max_user_namespaces="?")
    found = probe_security(root)
    assert not found.userns_clone
    assert found.userns_most is None


def test_who_may_trace(tmp_path: Path) -> None:
    assert probe_security(host(tmp_path, proc__sys__kernel__yama__ptrace_scope="2\n")).ptrace_scope == 2
