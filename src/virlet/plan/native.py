"""A plan as shell lines that can be pasted: for ``domxml-to-native``, ``explain`` and the log.

Descriptors are numbered as a shell can redirect them.  Sockets that we bind and dial have no redirection in a shell, so
their lines are comments that say what is opened where.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from virlet.plan.base import (
    Accept,
    BridgeTap,
    Dial,
    FdSource,
    Forked,
    Given,
    HelperPlan,
    LaunchPlan,
    Listener,
    LogFile,
    OpenMacvtap,
    OpenTap,
    OpenVhost,
    PairEnd,
    Word,
    render,
)

__all__ = ["native"]

_FIRST = 10
"""Below it live a shell's own descriptors."""


def native(plan: LaunchPlan) -> str:
    """What a start would really launch: descriptors, helpers, QEMU, in order; ends with a newline.

    Passwords do not occur: they are sent over the monitor.
    """
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: LaunchPlan) -> Iterator[str]:
    numbers: dict[FdSource, int] = {}
    for source in (*plan.fds, *(source for net in plan.nets if net.helper for source in net.helper.fds)):
        numbers.setdefault(source, _FIRST + len(numbers))
    for directory in plan.directories:
        yield f"mkdir -p -m 0700 {shlex.quote(str(directory))}"
    for source, number in numbers.items():
        yield f"# descriptor {number}: {_opened(source)}"
    for net in plan.nets:
        yield from (f"# {net.alias}: {reason}" for reason in net.why)
        if net.helper is not None and net.helper.forked is None:
            yield _helper(net.helper, numbers) + " &"
    front = [f"{name}={shlex.quote(value)}" for name, value in plan.env.items()]
    yield " \\\n  ".join([*front, *_options(plan.argv, numbers)]) + _redirect(plan.log)
    for net in plan.nets:
        if net.helper is not None and net.helper.forked is not None:
            yield from _forked(net.alias, net.helper.argv, net.helper.forked)


def _forked(alias: str, argv: tuple[Word, ...], forked: Forked) -> Iterator[str]:
    """What is said at the monitor has no place in a shell either."""
    yield f"# {alias}: {forked.link} is a link to {argv[0]}"
    for command in forked.adds:
        yield f"# {alias}: at the monitor: {command.name} {json.dumps(command.arguments)}"


def _helper(helper: HelperPlan, numbers: dict[FdSource, int]) -> str:
    line = shlex.join(render(helper.argv, numbers.__getitem__))
    return line + (_redirect(helper.stderr) if helper.stderr is not None else "")


def _options(argv: tuple[Word, ...], numbers: dict[FdSource, int]) -> Iterator[str]:
    """One option with its value a line."""
    line: list[str] = []
    for word in render(argv, numbers.__getitem__):
        if word.startswith("-") and line:
            yield shlex.join(line)
            line = []
        line.append(word)
    yield shlex.join(line)


def _redirect(log: LogFile) -> str:
    return f" 2>{'' if log.truncate else '>'}{shlex.quote(str(log.path))}"


def _opened(source: FdSource) -> str:
    match source:
        case Listener(path=path):
            return f"a UNIX stream socket bound to {path}, listening"
        case Dial(path=path):
            return f"a connection to the UNIX stream socket {path}"
        case Accept(path=path):
            return f"the connection that QEMU makes to a UNIX stream socket bound to {path}"
        case PairEnd(name=name, end=end, datagram=datagram):
            kind = "datagram" if datagram else "stream"
            return f"end {end} of the {kind} socket pair '{name}'"
        case LogFile(path=path, truncate=truncate):
            return f"{path}, opened for {'writing' if truncate else 'appending'}"
        case OpenTap(name=name, queue=queue, path=path):
            return f"queue {queue} of tap device {name}, by {path}"
        case OpenMacvtap(name=name, node=node, queue=queue):
            return f"queue {queue} of macvtap device {name}, by {node}"
        case OpenVhost(path=path):
            return f"{path}, opened for reading and writing"
        case BridgeTap(bridge=bridge, helper=program, vnet_hdr=vnet):
            return f"sent by: {program}{' --use-vnet' if vnet else ''} --br={bridge} --fd=…"
        case Given(group=group):
            return f"given by a client as group '{group}' (virDomainFDAssociate)"
