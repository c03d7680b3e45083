"""What ``virlet --help`` lists: every command, where it lives and what it is for.

The summaries stand here so that listing them imports no command; a test holds them against the commands' own help.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CATALOG", "SECTIONS", "Entry"]


class Entry(NamedTuple):
    """A command that is imported when it is chosen."""

    module: str
    """Below ``virlet.cli.commands``."""
    attribute: str
    summary: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Domains": {
        "define": Entry("define", "define", "Store a domain, or change a stored one."),
        "create": Entry("define", "create", "Start a transient domain from XML."),
        "edit": Entry("edit", "edit", "Edit a domain's XML in your editor."),
        "undefine": Entry("define", "undefine", "Forget a stored domain."),
        "import": Entry("importing", "import_", "Take over the domains of a libvirt session."),
        "autostart": Entry("define", "autostart", "Start a domain together with the daemon, or no longer."),
    },
    "Running them": {
        "start": Entry("lifecycle", "start", "Start a stored domain."),
        "shutdown": Entry("lifecycle", "shutdown", "Ask the guest to shut down."),
        "reboot": Entry("lifecycle", "reboot", "Ask the guest to reboot."),
        "reset": Entry("lifecycle", "reset", "Press the reset button."),
        "suspend": Entry("lifecycle", "suspend", "Pause a guest."),
        "resume": Entry("lifecycle", "resume", "Let a paused guest run on."),
        "destroy": Entry("lifecycle", "destroy", "End a guest now."),
        "console": Entry("console", "console", "Talk to a guest's serial console; Ctrl-] leaves."),
    },
    "Their devices": {
        "attach": Entry("device", "attach", "Give a domain one more device."),
        "detach": Entry("device", "detach", "Take an interface from a domain."),
        "link": Entry("device", "link", "Plug the cable of an interface in, or pull it out."),
    },
    "Seeing them": {
        "ls": Entry("listing", "ls", "List domains."),
        "info": Entry("inspect", "info", "Show what is known about a domain."),
        "xml": Entry("inspect", "xml", "Print a domain's XML."),
        "explain": Entry("explain", "explain", "Say what a start would do, and why."),
        "port": Entry("network", "port", "List forwarded ports."),
        "logs": Entry("logs", "logs", "Print the log of QEMU or of a helper."),
        "events": Entry("events", "events", "Print events as they happen."),
    },
    "virlet itself": {
        "uri": Entry("setup", "uri", "Print the URI for virsh and other libvirt clients."),
        "compat": Entry("setup", "compat", "Serve libvirt's own session path, or no longer."),
        "doctor": Entry("doctor", "doctor", "Say what works on this host, and what to do about the rest."),
        "version": Entry("setup", "version", "Print the versions of virlet and of the daemon."),
    },
}

CATALOG: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
