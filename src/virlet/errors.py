"""The error tree: one class a libvirt error code, so that a wire number and an exception are the same thing.

Two kinds of blame: an error whose ``remote`` is true was said by the peer; every other one is ours.  Any exception
that is not a :class:`VirletError` and escapes a public call is a bug of virlet's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from virlet.enums import ErrorCode, ErrorDomain

__all__ = [
    "AgentUnresponsive",
    "ArgumentUnsupported",
    "AuthFailed",
    "BadConfig",
    "ConfigUnsupported",
    "DeviceMissing",
    "DomainExists",
    "InternalError",
    "InvalidArg",
    "MissingName",
    "MissingOs",
    "NoConnect",
    "NoDomain",
    "NoDomainMetadata",
    "NoSupport",
    "NumericalOverflow",
    "OperationAborted",
    "OperationDenied",
    "OperationFailed",
    "OperationInvalid",
    "OperationTimeout",
    "OperationUnsupported",
    "Problem",
    "ResourceBusy",
    "RpcError",
    "SystemFailure",
    "VirletError",
    "XmlDetail",
    "XmlError",
    "XmlInvalidSchema",
    "from_wire",
]


class VirletError(Exception):
    """Something virlet can name.

    ``detail`` says what failed and on what, without libvirt's prefix; ``hint`` is the next step.  ``message`` is what a
    libvirt client shows: prefix, detail, hint.
    """

    code: ErrorCode | int = ErrorCode.INTERNAL_ERROR
    domain: ErrorDomain | int = ErrorDomain.QEMU
    prefix: ClassVar[str] = ""

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        domain: ErrorDomain | int | None = None,
        code: ErrorCode | int | None = None,
        errno: int | None = None,
        remote: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.errno = errno
        self.remote = remote
        if domain is not None:
            self.domain = domain
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """The whole text, as a libvirt client shows it."""
        text = self.detail if self.remote else self.prefix + self.detail
        return f"{text} (hint: {self.hint})" if self.hint else text

    def __str__(self) -> str:
        return self.message


class InternalError(VirletError):
    """Something outside our control broke, or we have a bug."""

    code = ErrorCode.INTERNAL_ERROR
    prefix = "internal error: "


class NoSupport(VirletError):
    """The driver does not offer this call."""

    code = ErrorCode.NO_SUPPORT
    domain = ErrorDomain.NONE
    prefix = "this function is not supported by the connection driver: "


class NoConnect(VirletError):
    """There is nobody to talk to."""

    code = ErrorCode.NO_CONNECT
    domain = ErrorDomain.NONE


class InvalidArg(VirletError):
    """An argument of the call has a wrong value."""

    code = ErrorCode.INVALID_ARG
    prefix = "invalid argument: "


class OperationFailed(VirletError):
    """The operation was tried and failed."""

    code = ErrorCode.OPERATION_FAILED
    domain = ErrorDomain.DOMAIN
    prefix = "operation failed: "


class MissingName(VirletError):
    """The XML has no name."""

    code = ErrorCode.NO_NAME
    domain = ErrorDomain.DOMAIN


class MissingOs(VirletError):
    """The XML does not say what to boot."""

    code = ErrorCode.NO_OS
    domain = ErrorDomain.DOMAIN


class XmlError(VirletError):
    """The XML is well formed but means nothing."""

    code = ErrorCode.XML_ERROR
    domain = ErrorDomain.DOMAIN
    prefix = "XML error: "


class DomainExists(VirletError):
    """The domain exists already."""

    code = ErrorCode.DOM_EXIST
    domain = ErrorDomain.DOMAIN


class OperationDenied(VirletError):
    """Read-only connections and other users may not do this."""

    code = ErrorCode.OPERATION_DENIED
    domain = ErrorDomain.DOMAIN
    prefix = "operation forbidden: "


class XmlDetail(VirletError):
    """The XML is not well formed, or hostile."""

    code = ErrorCode.XML_DETAIL
    domain = ErrorDomain.DOMAIN


class SystemFailure(VirletError):
    """The kernel said no; ``errno`` says how, and the message ends with its text."""

    code = ErrorCode.SYSTEM_ERROR

    @classmethod
    def of(cls, error: OSError, what: str, *, hint: str | None = None) -> SystemFailure:
        """Make one of an :class:`OSError`: *what* could not be done."""
        number = error.errno or 0
        text = os.strerror(number) if number else str(error)
        return cls(f"{what}: {text}", hint=hint, errno=number)


class RpcError(VirletError):
    """The wire protocol was broken, or a procedure is unknown."""

    code = ErrorCode.RPC
    domain = ErrorDomain.RPC


class NoDomain(VirletError):
    """No such domain."""

    code = ErrorCode.NO_DOMAIN
    prefix = "Domain not found: "


class AuthFailed(VirletError):
    """The peer may not speak to us."""

    code = ErrorCode.AUTH_FAILED
    domain = ErrorDomain.RPC
    prefix = "authentication failed: "


class OperationInvalid(VirletError):
    """Not possible in the domain's present state."""

    code = ErrorCode.OPERATION_INVALID
    prefix = "Requested operation is not valid: "


class ConfigUnsupported(VirletError):
    """The configuration means something that cannot be had here."""

    code = ErrorCode.CONFIG_UNSUPPORTED
    domain = ErrorDomain.DOMAIN
    prefix = "unsupported configuration: "


class OperationTimeout(VirletError):
    """It took too long."""

    code = ErrorCode.OPERATION_TIMEOUT
    prefix = "Timed out during operation: "


class ArgumentUnsupported(VirletError):
    """This argument of the call is not supported."""

    code = ErrorCode.ARGUMENT_UNSUPPORTED
    prefix = "argument unsupported: "


class NumericalOverflow(VirletError):
    """A number is too large for what it stands for."""

    code = ErrorCode.OVERFLOW
    domain = ErrorDomain.DOMAIN
    prefix = "numerical overflow: "


class OperationAborted(VirletError):
    """Somebody ended the operation."""

    code = ErrorCode.OPERATION_ABORTED
    prefix = "operation aborted: "


class NoDomainMetadata(VirletError):
    """The domain has no such metadata."""

    code = ErrorCode.NO_DOMAIN_METADATA
    domain = ErrorDomain.DOMAIN
    prefix = "metadata not found: "


class OperationUnsupported(VirletError):
    """The hypervisor cannot do this."""

    code = ErrorCode.OPERATION_UNSUPPORTED
    prefix = "Operation not supported: "


class AgentUnresponsive(VirletError):
    """The guest agent does not answer."""

    code = ErrorCode.AGENT_UNRESPONSIVE
    prefix = "Guest agent is not responding: "


class ResourceBusy(VirletError):
    """Somebody else uses it."""

    code = ErrorCode.RESOURCE_BUSY
    prefix = "resource busy: "


class XmlInvalidSchema(VirletError):
    """The XML has elements that the schema does not know (only with the VALIDATE flag)."""

    code = ErrorCode.XML_INVALID_SCHEMA
    domain = ErrorDomain.XML
    prefix = "XML document failed to validate against schema: "


class DeviceMissing(VirletError):
    """The domain has no such device."""

    code = ErrorCode.DEVICE_MISSING
    domain = ErrorDomain.DOMAIN
    prefix = "device not found: "


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration, found by a check; checks yield them all, one caller raises."""

    path: str
    """Where in the XML, as an XPath below the domain: ``devices/interface[1]/mtu/@size``."""
    message: str
    """What is wrong, without libvirt's prefix."""
    hint: str | None = None
    code: ErrorCode = ErrorCode.CONFIG_UNSUPPORTED
    domain: ErrorDomain = ErrorDomain.DOMAIN
    line: int | None = None
    """1-based line in the XML text as the user gave it."""
    column: int | None = None
    """1-based column in that line."""
    text: str = ""
    """What the line is of, where that is not the text that was given."""

    def where(self) -> str:
        """``line 7, column 3`` or nothing."""
        if self.line is None:
            return ""
        return f"line {self.line}" + ("" if self.column is None else f", column {self.column}")


def _by_code() -> dict[int, type[VirletError]]:
    table: dict[int, type[VirletError]] = {}
    queue = list(VirletError.__subclasses__())
    while queue:
        kind = queue.pop(0)
        queue.extend(kind.__subclasses__())
        table.setdefault(int(kind.code), kind)
    return table


class BadConfig(VirletError):
    """All the problems of one configuration in one error; code and domain are the first problem's."""

    code = ErrorCode.CONFIG_UNSUPPORTED

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__("; ".join(map(sentence, self.problems)), code=first.code, domain=first.domain)

    @property
    def message(self) -> str:
        kind = _BY_CODE.get(int(self.code), VirletError)
        return kind.prefix + self.detail


def sentence(problem: Problem) -> str:
    """A problem in one line, with its place and hint."""
    place = problem.where()
    whose = f" of {problem.text}" if problem.text else ""
    text = problem.message + (f" ({place}: {problem.path}{whose})" if place else "")
    return text + (f" (hint: {problem.hint})" if problem.hint else "")


_BY_CODE = _by_code()


def from_wire(code: int, domain: int, message: str | None, int1: int = -1) -> VirletError:
    """The exception for an error that the peer sent; a code that nobody knows is a plain :class:`VirletError`."""
    kind = _BY_CODE.get(code, VirletError)
    if kind is BadConfig:
        kind = ConfigUnsupported
    errno = int1 if code == ErrorCode.SYSTEM_ERROR and int1 > 0 else None
    return kind(message or f"unknown error {code}", code=code, domain=domain, errno=errno, remote=True)
