"""The test guest on a backend."""

from __future__ import annotations

from typing import ClassVar

from virlet.model.domain import format_device, parse_domain
from virlet.model.interface import Interface
from virlet.testing.session import LiveGuest, booted, guest_files, outlived, virletd

__all__ = ["LiveBackendKit"]

_DRIVERS = "cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | grep -v bc01sc0 | xargs modprobe -a -q"
"""Nothing in the guest loads a driver for a card that comes later."""


class LiveBackendKit:
    """Derive from this and say on which interface the guest shall boot.

    The guest is what ``script/make-guest`` of virlet's sources makes; ``VIRLET_GUEST_DIR`` says where it lies
    (``~/.cache/virlet/guest`` when unset).  Where there is none, the methods raise :class:`unittest.SkipTest`.
    """

    interface: ClassVar[str]
    """One ``<interface>`` element, on which the start chooses your backend."""
    backend_name: ClassVar[str]
    """The name that ``explain`` has to show for it."""
    leases: ClassVar[str | None] = None
    """The IPv4 address that the guest gets by DHCP; None where nobody gives one."""
    hotplug: ClassVar[bool] = True
    """Whether the interface can come and go while the guest runs."""

    def test_a_guest_boots_on_it_and_leaves_nothing(self) -> None:
        """It is chosen, the guest has what :attr:`leases` says, :meth:`look` is content; then nothing runs any more."""
        kernel, initrd = guest_files()
        with virletd() as daemon:
            files, processes = daemon.files(), daemon.children()
            with booted(daemon.connection, self.interface, kernel, initrd) as guest:
                chosen = [net["backend"] for net in guest.domain.explain()["interfaces"]]
                _that(chosen == [self.backend_name], f"carried by {chosen}")
                lease = guest.console.leases.get("eth0")
                address = lease.ip if lease is not None and lease.ip else None
                _that(address == self.leases, f"the guest has {address}, not {self.leases}")
                self.look(guest)
                started = daemon.children() - processes
            left = outlived(started)
            _that(not left, f"left running when the guest had gone: {sorted(left)}")
            _that(daemon.files() == files, f"left behind: {sorted(daemon.files() - files)}")

    def test_it_comes_and_goes_while_the_guest_runs(self) -> None:
        """attach-device and detach-device; the guest sees the card come and go."""
        if not self.hotplug:
            return
        kernel, initrd = guest_files()
        with virletd() as daemon, booted(daemon.connection, "", kernel, initrd) as guest:
            guest.domain.attach_device(self.interface)
            guest.console.check(f"until [ -e /sys/class/net/eth0 ]; do {_DRIVERS}; usleep 50000; done", 30)
            shown = _interfaces(guest)
            _that(len(shown) == 1, f"the live XML shows {len(shown)} interfaces")
            with daemon.connection.events(["device-removed"]) as removed:
                guest.domain.detach_device(format_device(shown[0], secure=True))
                guest.console.check("while [ -e /sys/class/net/eth0 ]; do usleep 50000; done", 30)
                _that(removed.next(30), "nobody is told that the interface has gone")
            _that(not _interfaces(guest), "the live XML still shows the interface")

    def look(self, guest: LiveGuest) -> None:
        """For you to override: what else the booted guest has to show, as by ``guest.console.check('ping …')``."""


def _interfaces(guest: LiveGuest) -> tuple[Interface, ...]:
    domain, _ = parse_domain(guest.domain.xml())
    return domain.devices.interfaces


def _that(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
