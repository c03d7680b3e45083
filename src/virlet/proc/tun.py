"""Tap and macvtap devices, opened as the kernel wants it (its tun/tap documentation): one descriptor a queue."""

from __future__ import annotations

import fcntl
import os
import platform
import socket
import stat
import struct
from contextlib import suppress

__all__ = ["TapFlag", "configure", "hardware_address", "has_vnet_hdr", "open_macvtap", "open_tap", "tap_name"]


class TapFlag:
    """Flags of TUNSETIFF (``linux/if_tun.h``)."""

    TAP = 0x0002
    MULTI_QUEUE = 0x0100
    NO_PI = 0x1000
    VNET_HDR = 0x4000


_ODD = platform.machine().startswith(("ppc", "mips", "sparc", "alpha"))
"""These architectures have directions of ioctl(2) of their own (``asm/ioctl.h``)."""


def _tun(number: int, *, read: bool) -> int:
    """The request ``_IOR('T', number, unsigned int)``, or its ``_IOW``."""
    direction = ((0x4 if not read else 0x2) << 29) if _ODD else ((0x2 if read else 0x1) << 30)
    return direction | 4 << 16 | ord("T") << 8 | number


_SETIFF = _tun(202, read=False)
_GETIFF = _tun(210, read=True)
_GETFEATURES = _tun(207, read=True)
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFMTU, _SIOCSIFHWADDR, _SIOCGIFHWADDR = 0x8922, 0x8924, 0x8927
_IFREQ = struct.Struct("16sH22x")
_ETHER = 1  # ARPHRD_ETHER
_UP = 1  # IFF_UP


def open_tap(path: str, name: str, flags: int) -> tuple[int, str]:
    """A descriptor of the tap device *name* and what the kernel calls it (*name* may be a template: ``vnet%d``).

    A device that is not there is made, where that is allowed.  Raises :class:`OSError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not _features(fd) & TapFlag.VNET_HDR:
            flags &= ~TapFlag.VNET_HDR
        answer = fcntl.ioctl(fd, _SETIFF, _IFREQ.pack(os.fsencode(name), flags | TapFlag.TAP | TapFlag.NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd, _name(answer)


def open_macvtap(node: str, flags: int, device: str) -> int:
    """A descriptor of the macvtap device behind *node*, its flags set; the flags belong to the descriptor alone.

    *device* is the device number that the node must have, ``major:minor``, or empty where it is not known.
    :raises ValueError: the node is another one.
    :raises OSError: it cannot be opened, or does not know the flags.
    """
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        if not stat.S_ISCHR(found.st_mode) or (device and number != device):
            raise ValueError(f"{node} is device {number}, not {device}")
        wanted = flags | TapFlag.TAP | TapFlag.NO_PI
        name, now = _IFREQ.unpack(fcntl.ioctl(fd, _GETIFF, bytes(_IFREQ.size)))
        if now != wanted:
            fcntl.ioctl(fd, _SETIFF, _IFREQ.pack(name, wanted))
    except BaseException:
        os.close(fd)
        raise
    return fd


def tap_name(fd: int) -> str:
    """What the kernel calls the link behind a tap or macvtap descriptor; raises :class:`OSError` for another one."""
    return _name(fcntl.ioctl(fd, _GETIFF, bytes(_IFREQ.size)))


def has_vnet_hdr(fd: int) -> bool:
    """Frames through *fd* have the header of virtio."""
    _, flags = _IFREQ.unpack(fcntl.ioctl(fd, _GETIFF, bytes(_IFREQ.size)))
    return bool(flags & TapFlag.VNET_HDR)


def hardware_address(fd: int) -> str:
    """The MAC address of the link behind a tap or macvtap descriptor."""
    answer: bytes = fcntl.ioctl(fd, _SIOCGIFHWADDR, bytes(_IFREQ.size))
    return answer[18:24].hex(":")


def configure(name: str, *, mac: str | None, mtu: int | None) -> None:
    """Give a device that we have made its address and MTU, and set it up; raises :class:`OSError`."""
    word = os.fsencode(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        if mac is not None:
            request = struct.pack("16sH6s16x", word, _ETHER, bytes.fromhex(mac.replace(":", "")))
            fcntl.ioctl(control, _SIOCSIFHWADDR, request)
        if mtu:
            fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", word, mtu))
        _, flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(word, 0)))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(word, flags | _UP))


def _name(answer: bytes) -> str:
    name, _ = _IFREQ.unpack(answer)
    return os.fsdecode(name.rstrip(b"\0"))


def _features(fd: int) -> int:
    with suppress(OSError):  # A kernel of before 2.6.27 knows the flag and not the question; nobody runs it.
        (features,) = struct.unpack("I", fcntl.ioctl(fd, _GETFEATURES, bytes(4)))
        return int(features)
    return 0
