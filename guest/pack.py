#!/usr/bin/env python3
"""Pack the test guest's initramfs: busybox, perl, the kernel modules it may need and the scripts beside this file.

Needs no root: it writes the newc format (see the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)
itself, so owners and device nodes are numbers in a file.  The archive stays uncompressed, because a guest under TCG
copies ten megabytes faster than it inflates three.  Standard library alone.
"""

from __future__ import annotations

import argparse
import lzma
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What a guest of ours can be given: the bus, its devices, the power button.  Absent ones are built in or unknown
# to this kernel; what they depend on comes along.
MODULES = (
    "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio-rng", "virtio_balloon", "virtio_console",
    "virtio_input", "button", "evdev", "e1000", "e1000e", "8139cp", "sd_mod", "sr_mod", "ahci", "ata_piix",
    "xhci-pci", "usbhid", "hid-generic", "ext4", "pvpanic-mmio", "pvpanic-pci",
)  # fmt: skip

SCRIPTS = {
    "rc": "sbin/rc",
    "dhcp": "sbin/dhcp",
    "net-up": "sbin/net-up",
    "start-net": "sbin/start-net",
    "leases": "sbin/leases",
    "control": "sbin/control",
    "services": "sbin/services",
    "transfer": "sbin/transfer",
    "power-button": "etc/acpi/PWRF/00000080",
    "inittab": "etc/inittab",
}


class Archive:
    """A newc archive in memory; everything belongs to root and is as old as the epoch, so equal input packs equally."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._known: set[str] = set()

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """Add one entry, and the directories above it; an entry that is there already stays as it is."""
        if name in self._known:
            return
        parent = str(Path(name).parent)
        if parent != ".":
            self.add(parent, stat.S_IFDIR | 0o755)
        self._known.add(name)
        self._entry(name, mode, data, device, len(self._known))

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int], inode: int) -> None:
        raw = name.encode() + b"\0"
        numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        self._parts += [padded(header + raw), padded(data)]

    def image(self) -> bytes:
        """The whole archive with its trailer."""
        self._entry("TRAILER!!!", 0, b"", (0, 0), 0)
        return b"".join(self._parts)


def padded(data: bytes) -> bytes:
    """*data* up to a multiple of four bytes, as newc wants every part."""
    return data + b"\0" * (-len(data) % 4)


def module_image(path: Path) -> bytes:
    """The plain ELF of a module that may be compressed: busybox's insmod reads nothing else."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
    return data


def modinfo(image: bytes, key: str) -> list[str]:
    """Values of *key* in a module's .modinfo section, a run of NUL-terminated key=value strings."""
    return [value.decode() for value in re.findall(rb"(?:^|\0)" + key.encode() + rb"=([^\0]*)\0", image)]


def module_name(path: Path) -> str:
    """How modules name each other: without directory and suffixes, dashes as underscores."""
    return path.name.partition(".ko")[0].replace("-", "_")


def wanted_modules(tree: Path) -> dict[str, tuple[Path, bytes]]:
    """MODULES and everything they depend on: name to (path in the tree, ELF image)."""
    at_hand = {module_name(path): path for path in sorted(tree.rglob("*.ko*"))}
    chosen: dict[str, tuple[Path, bytes]] = {}
    pending = [name.replace("-", "_") for name in MODULES]
    while pending:
        name = pending.pop()
        if name in chosen or name not in at_hand:
            continue
        image = module_image(at_hand[name])
        chosen[name] = (at_hand[name].relative_to(tree), image)
        pending += [dep.replace("-", "_") for dep in ",".join(modinfo(image, "depends")).split(",") if dep]
    return chosen


def add_modules(archive: Archive, tree: Path, version: str) -> None:
    """Modules with the two indexes that modprobe reads; depmod is not needed for a dozen of them."""
    home = f"lib/modules/{version}"
    chosen = wanted_modules(tree)
    deps: list[str] = []
    aliases: list[str] = []
    for name, (path, image) in sorted(chosen.items()):
        target = str(path).partition(".ko")[0] + ".ko"
        archive.add(f"{home}/{target}", stat.S_IFREG | 0o644, image)
        deps.append(f"{target}: {' '.join(dependencies(name, chosen))}\n")
        aliases += [f"alias {alias} {name}\n" for alias in modinfo(image, "alias")]
    archive.add(f"{home}/modules.dep", stat.S_IFREG | 0o644, "".join(deps).encode())
    archive.add(f"{home}/modules.alias", stat.S_IFREG | 0o644, "".join(aliases).encode())


def dependencies(name: str, chosen: dict[str, tuple[Path, bytes]]) -> list[str]:
    """Everything below *name*, nearest first, as modules.dep lists it."""
    found: list[str] = []
    pending = [name]
    while pending:
        image = chosen[pending.pop(0)][1]
        for dep in ",".join(modinfo(image, "depends")).split(","):
            dep = dep.replace("-", "_")
            if dep in chosen:
                path = str(chosen[dep][0]).partition(".ko")[0] + ".ko"
                if path in found:
                    found.remove(path)
                found.append(path)
                pending.append(dep)
    return found


def shared_objects(program: Path) -> Iterator[Path]:
    """The libraries *program* is linked to, and the dynamic loader, as ldd finds them."""
    text = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for word in text.split():
        if word.startswith("/"):
            yield Path(word)


def add_programs(archive: Archive, busybox: Path) -> None:
    """busybox with a link per applet, and the perl that every Debian has, for the services."""
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    applets = subprocess.run([busybox, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    for applet in applets:
        archive.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for name in ("acpid", "init", "poweroff", "reboot", "halt", "udhcpc", "modprobe", "insmod", "ip"):
        archive.add(f"sbin/{name}", stat.S_IFLNK | 0o777, b"/bin/busybox")
    perl = shutil.which("perl", path="/usr/bin:/bin")
    if perl is None:
        sys.exit("pack: no /usr/bin/perl, which the guest's services are written in; install perl-base")
    archive.add("usr/bin/perl", stat.S_IFREG | 0o755, Path(perl).read_bytes())
    for library in shared_objects(Path(perl)):
        archive.add(str(library).lstrip("/"), stat.S_IFREG | 0o755, library.read_bytes())


def add_skeleton(archive: Archive) -> None:
    """What the kernel and the first script need: a console before /dev is mounted, mount points, our scripts."""
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    for name in ("proc", "sys", "run", "tmp", "root", "mnt", "etc", "var/log", "var/run"):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("init", stat.S_IFLNK | 0o777, b"/bin/busybox")
    archive.add("etc/passwd", stat.S_IFREG | 0o644, b"root::0:0:root:/root:/bin/sh\n")
    archive.add("etc/group", stat.S_IFREG | 0o644, b"root:x:0:\n")
    for source, target in SCRIPTS.items():
        archive.add(target, stat.S_IFREG | 0o755, (HERE / source).read_bytes())


def main(argv: Iterable[str] | None = None) -> None:
    """Read an unpacked kernel package and a busybox, write the image."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", type=Path, required=True, help="directory of the unpacked kernel package")
    parser.add_argument("--busybox", type=Path, required=True, help="a static busybox")
    parser.add_argument("--out", type=Path, required=True, help="the image to write")
    options = parser.parse_args(None if argv is None else list(argv))
    trees = sorted((*options.kernel.glob("lib/modules/*"), *options.kernel.glob("usr/lib/modules/*")))
    if not trees:
        sys.exit(f"pack: no lib/modules in {options.kernel}")
    archive = Archive()
    add_skeleton(archive)
    add_programs(archive, options.busybox)
    add_modules(archive, trees[0], trees[0].name)
    options.out.write_bytes(archive.image())


if __name__ == "__main__":
    main()
