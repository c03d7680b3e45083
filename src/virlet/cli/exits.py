"""Exit codes, and which error means which."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["MEANINGS", "Exit", "exit_for"]


class Exit(IntEnum):
    """What the shell sees; the numbers are part of virlet's interface and do not change."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOBODY = 3
    NO_DOMAIN = 4
    WRONG_STATE = 5
    BAD_XML = 6
    UNSUPPORTED = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "the operation failed",
    Exit.USAGE: "wrong usage",
    Exit.NOBODY: "nobody to talk to: no daemon, or it refused the connection",
    Exit.NO_DOMAIN: "no such domain",
    Exit.WRONG_STATE: "not possible in the domain's present state",
    Exit.BAD_XML: "the XML is wrong, or asks for something that cannot be had here",
    Exit.UNSUPPORTED: "the server does not offer this",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
    Exit.BROKEN_PIPE: "the reader of the output went away",
}
"""For ``virlet --help`` and the reference page."""

# By the names of libvirt's error codes rather than the enum itself: this module is imported for --help.
_BY_NAME = {
    "NO_CONNECT": Exit.NOBODY,
    "AUTH_FAILED": Exit.NOBODY,
    "INVALID_CONN": Exit.NOBODY,
    "UNKNOWN_HOST": Exit.NOBODY,
    "NO_DOMAIN": Exit.NO_DOMAIN,
    "OPERATION_INVALID": Exit.WRONG_STATE,
    "XML_ERROR": Exit.BAD_XML,
    "XML_DETAIL": Exit.BAD_XML,
    "XML_INVALID_SCHEMA": Exit.BAD_XML,
    "NO_NAME": Exit.BAD_XML,
    "NO_OS": Exit.BAD_XML,
    "OS_TYPE": Exit.BAD_XML,
    "INVALID_MAC": Exit.BAD_XML,
    "CONFIG_UNSUPPORTED": Exit.BAD_XML,
    "NO_SUPPORT": Exit.UNSUPPORTED,
    "OPERATION_UNSUPPORTED": Exit.UNSUPPORTED,
    "ARGUMENT_UNSUPPORTED": Exit.UNSUPPORTED,
}


def exit_for(code: int) -> Exit:
    """The exit code for an error with libvirt's number *code*."""
    from virlet.enums import ErrorCode

    try:
        return _BY_NAME.get(ErrorCode(code).name, Exit.FAILED)
    except ValueError:
        return Exit.FAILED
