"""Does KVM work?  The device may exist, open, and make a VM, and still not run a kernel: so guest code is run in it.

Under a para-virtual hypervisor (PVM, nested) KVM executes an ordinary guest by emulating one instruction after the
other: real, protected and long mode are reached, but a loop takes a thousand times its time, and the first SSE2
instruction, which every kernel's decompressor has, ends in "KVM internal error".  The ROM below tries just these, in
the same QEMU and the same way that a guest would run, for a fifth of a second, and reports each step on QEMU's debug
console.  A kernel may still fail where this does not; ``virlet doctor`` can boot one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from virlet.plan.facts import QemuFacts, Support
from virlet.proc.spawn import Command, spawn

__all__ = ["Trial", "judge", "probe_kvm", "rom"]

_DEVICE = Path("/dev/kvm")
_TIMEOUT = 5.0
_SLOW = 0.05
"""Seconds in which a hundred thousand turns of an empty loop must be done: a CPU needs 0.0001, an emulator 0.1."""
_TRIALS = 3
"""Runs that have to be slow before KVM is: a host that is busy for a moment makes one so."""

_NEEDED = frozenset({"isa-debugcon", "isa-debug-exit"})
"""Not built into every distribution's QEMU."""
_DEBUG_PORT, _EXIT_PORT = 0xE9, 0xF4
_PASSED = (0x10 << 1) | 1
"""QEMU's exit status when the guest writes 0x10 to isa-debug-exit."""

_CODE = """
ba e9 00                mov $0xe9, %dx          # the debug console
b0 52  ee               out 'R'                 # real mode
fa                      cli
2e 66 0f 01 16 d8 ff    lgdt %cs:0xffd8
b8 01 00  0f 01 f0      lmsw $1
66 ea 1c ff 0f 00 08 00 ljmpl $8, $0xfff1c

66 b8 10 00             mov $16, %ax
8e d8  8e d0            mov %ax, %ds, %ss
b0 50  ee               out 'P'                 # protected mode
c7 05 00 10 00 00 03 20 00 00  movl $0x2003, 0x1000   # one page of 2 MiB
c7 05 00 20 00 00 03 30 00 00  movl $0x3003, 0x2000
c7 05 00 30 00 00 83 00 00 00  movl $0x83, 0x3000
31 c0                   xor %eax, %eax
a3 04 10 00 00          mov %eax, 0x1004
a3 04 20 00 00          mov %eax, 0x2004
a3 04 30 00 00          mov %eax, 0x3004
b8 20 02 00 00  0f 22 e0  mov $0x220, %cr4      # PAE, OSFXSR
b8 00 10 00 00  0f 22 d8  mov $0x1000, %cr3
b9 80 00 00 c0  0f 32   rdmsr 0xc0000080        # EFER
0d 00 01 00 00  0f 30   wrmsr with LME
0f 20 c0                mov %cr0, %eax
83 e0 fb                and $~4, %eax           # EM off
0d 00 00 00 80          or $0x80000000, %eax    # PG on
0f 22 c0                mov %eax, %cr0
ea 89 ff 0f 00 18 00    ljmp $24, $0xfff89

ba e9 00 00 00          mov $0xe9, %edx
b0 4c  ee               out 'L'                 # long mode
b9 a0 86 01 00          mov $100000, %ecx
ff c9  75 fc            dec %ecx; jnz
b0 54  ee               out 'T'                 # the loop was turned
66 0f 76 c0             pcmpeqd %xmm0, %xmm0
66 0f fe c0             paddd %xmm0, %xmm0
66 0f 7e c0             movd %xmm0, %eax
83 f8 fe  75 07         cmp $-2, %eax; jne hlt
b0 53  ee               out 'S'                 # SSE2 computes
b0 10  e6 f4            out 0x10 to the exit port
f4  eb fd               hlt for ever

00 00 00 00 00 00 00 00  the GDT: nothing
ff ff 00 00 00 9b cf 00  8: code, 32 bits
ff ff 00 00 00 93 cf 00  16: data
ff ff 00 00 00 9b af 00  24: code, 64 bits
1f 00 b8 ff 0f 00        its pointer: 32 bytes at 0xfffb8
"""
"""Machine code and what it does; placed at 0xff00 of the 64 KiB below 1 MiB."""

_RESET = "e9 0d ff", 0xFFF0  # jmp 0xff00, where an x86 CPU starts


def rom() -> bytes:
    """A firmware of 64 KiB that runs the test."""
    code = bytearray(0x10000)
    program = b"".join(map(_bytes_of, _CODE.splitlines()))
    code[0xFF00 : 0xFF00 + len(program)] = program
    reset, at = _RESET
    code[at : at + 3] = bytes.fromhex(reset)
    return bytes(code)


def _bytes_of(line: str) -> bytes:
    """The machine code with which a line of the listing begins."""
    found = bytearray()
    for word in line.split():
        if len(word) != 2 or not set(word) <= set("0123456789abcdef"):
            break
        found.append(int(word, 16))
    return bytes(found)


@dataclass
class Trial:
    """What is seen of a run while it runs."""

    steps: dict[str, float] = field(default_factory=dict)
    """Step → the loop's time at which it was reported."""
    said: bytes = b""
    """The end of QEMU's messages."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def step(self, data: bytes) -> None:
        for letter in data.decode("ascii", "replace"):
            self.steps.setdefault(letter, asyncio.get_running_loop().time())

    def error(self, data: bytes) -> None:
        self.said = (self.said + data)[-4096:]
        if b"KVM internal error" in self.said:
            self.ended.set()  # QEMU only pauses the guest.


class _Pipe(asyncio.Protocol):
    """Hands on what comes through; its end says nothing that the end of the process does not."""

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard

    def data_received(self, data: bytes) -> None:
        self._heard(data)


async def _read(fd: int, heard: Callable[[bytes], None]) -> asyncio.BaseTransport:
    """Read the pipe *fd* until the transport, which owns it, is closed."""
    pipe = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Pipe(heard), pipe)
    return transport


async def probe_kvm(qemu: QemuFacts, *, accel: str = "kvm") -> Support:
    """Try KVM with *qemu*; *accel* is for a test of this test.

    :raises SystemFailure: the emulator cannot be run.
    """
    if accel == "kvm" and (refusal := _device()) is not None:
        return refusal
    machine = next((name for name in ("pc", "q35") if qemu.machine(name) is not None), None)
    if qemu.arch != "x86_64":
        return Support(True, "/dev/kvm can be opened (no guest code for this architecture was tried)")
    if machine is None or not qemu.devices >= _NEEDED:
        return Support(True, "/dev/kvm can be opened (this QEMU lacks the devices by which guest code could report)")
    for _ in range(_TRIALS):
        run, code = await _run(Path(qemu.path), machine, accel)
        if (_turned(run) or 0.0) <= _SLOW:
            break
    return judge(run, code)


def _device() -> Support | None:
    """Why /dev/kvm cannot be used at all."""
    if not _DEVICE.exists():
        return Support(
            False, "there is no /dev/kvm", "enable virtualization in the firmware, and load kvm_intel or kvm_amd"
        )
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return Support(False, "/dev/kvm may not be opened", "join its group (often 'kvm') and log in again")
    except OSError as error:
        return Support(False, f"/dev/kvm cannot be opened: {os.strerror(error.errno or 0)}")
    return None


async def _run(emulator: Path, machine: str, accel: str) -> tuple[Trial, int | None]:
    run = Trial()
    steps_in, steps_out = os.pipe2(os.O_CLOEXEC)
    errors_in, errors_out = os.pipe2(os.O_CLOEXEC)
    pipes = [await _read(steps_in, run.step), await _read(errors_in, run.error)]
    firmware = os.memfd_create("firmware", os.MFD_CLOEXEC)
    try:
        os.write(firmware, rom())
        argv = _argv(emulator, machine, accel, firmware)
        command = Command(argv, fds=(firmware,), stdout=steps_out, stderr=errors_out, outlives_us=False)
        process = await spawn(command, "trial of KVM")
        process.on_exit(lambda status: run.ended.set())
        try:
            await asyncio.wait_for(run.ended.wait(), _TIMEOUT)
        except TimeoutError:
            pass  # The steps tell how far it came.
        finally:
            process.signal(signal.SIGKILL)
            status = await process.exited()
        return run, status.code if status is not None else None
    finally:
        for pipe in pipes:
            pipe.close()
        for fd in (firmware, steps_out, errors_out):
            os.close(fd)


def _argv(emulator: Path, machine: str, accel: str, firmware: int) -> tuple[str, ...]:
    return (
        str(emulator), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", machine, "-accel", accel, "-m", "16",
        "-bios", f"/dev/fd/{firmware}",
        "-chardev", "stdio,id=steps,signal=off",
        "-device", f"isa-debugcon,iobase={_DEBUG_PORT:#x},chardev=steps",
        "-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1",
    )  # fmt: skip


def judge(run: Trial, code: int | None) -> Support:
    """What a trial means; *code* is QEMU's exit status, None when it had to be killed."""
    steps, said = run.steps, run.said.decode("utf-8", "replace")
    hint = "use <domain type='qemu'>; this host is probably a virtual machine that cannot run others"
    turned = _turned(run)
    if "KVM internal error" in said:
        return Support(False, f"KVM could not execute guest code ({_reached(steps)})", hint)
    if code == _PASSED and turned is not None:
        if turned > _SLOW:
            return Support(False, f"KVM emulates instructions: a loop of 0.1 ms took {turned * 1e3:.0f} ms", hint)
        return Support(True, "guest code ran in real, protected and long mode")
    if not steps and code is not None:
        last = said.strip().splitlines()
        return Support(False, last[-1] if last else f"QEMU ended with exit status {code}", hint)
    return Support(False, f"guest code stopped ({_reached(steps)})", hint)


def _turned(run: Trial) -> float | None:
    """Seconds that the loop took; None for one that was not turned to its end."""
    return run.steps["T"] - run.steps["L"] if "T" in run.steps and "L" in run.steps else None


def _reached(steps: dict[str, float]) -> str:
    names = {"S": "SSE2 passed", "T": "at an SSE2 instruction", "L": "in long mode", "P": "in protected mode"}
    return next((text for step, text in names.items() if step in steps), "in real mode")
