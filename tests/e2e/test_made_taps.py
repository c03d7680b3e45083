"""Taps that the user may make: in a network namespace of the user's own, where the daemon has the capability to."""

from __future__ import annotations

import re

import pytest
from domains import domain
from session import session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

OWN_NETWORK = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net")


def nic(target: str = "") -> str:
    return f"<interface type='ethernet'><mac address='52:54:00:77:00:01'/>{target}<model type='virtio'/></interface>"


@pytest.mark.parametrize(("target", "name"), [("", "vnet0"), ("<target dev='mine'/>", "mine")])
def test_a_tap_is_made_for_the_guest_set_up_and_gone_with_it(target: str, name: str) -> None:
    with session() as one:
        virletd = one.start_daemon(*OWN_NETWORK)

        def links() -> str:
            inside = ("nsenter", "--preserve-credentials", "--user", "--net", "--target", str(virletd.pid))
            return one.run(*inside, "ip", "-o", "link", "show").stdout

        one.define(domain("made", nic(target)))
        one.virsh("start", "made")
        assert f"<target dev='{name}'/>" in one.virsh("dumpxml", "made")
        assert re.search(rf"{name}: <[^>]*\bUP\b.*fe:54:00:77:00:01", links())
        assert (f"<target dev='{name}'/>" in one.virsh("dumpxml", "--inactive", "made")) == bool(target)
        one.virsh("destroy", "made")
        assert name not in links()
