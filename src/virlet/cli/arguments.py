"""Arguments that several commands take: the name of a domain, and a file with XML."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from virlet.cli.app import App

__all__ = ["DomainName", "domain_argument", "read_xml", "xml_argument"]

F = TypeVar("F", bound=Callable[..., Any])

MAX_XML = 4 << 20
"""The longest string of the wire protocol (``REMOTE_STRING_MAX``)."""


if TYPE_CHECKING:
    Text = click.ParamType[str]
else:
    Text = click.ParamType  # not generic before click 8.2


class DomainName(Text):
    """The name, UUID or id of a domain; completed from the names that a running daemon knows."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin like *incomplete*; none when no daemon runs, completing starts none."""
        from virlet.errors import VirletError

        try:
            with ctx.ensure_object(App).connection(start=False) as server:
                names = [domain.name for domain in server.domains()]
        except (VirletError, OSError):
            return []
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def domain_argument(required: bool = True) -> Callable[[F], F]:
    """The argument NAME: a domain, or with not *required* perhaps none."""
    return click.argument("name", type=DomainName(), metavar="NAME" if required else "[NAME]", required=required)


def xml_argument() -> Callable[[F], F]:
    """The argument FILE."""
    return click.argument("file", type=click.Path(allow_dash=True), metavar="FILE")


def read_xml(file: str) -> str:
    """The XML in *file*, or of standard input for ``-``."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_XML + 1)
        else:
            with open(file, "rb") as stream:
                data = stream.read(MAX_XML + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    what = "standard input" if file == "-" else file
    if len(data) > MAX_XML:
        raise click.ClickException(f"{what} is larger than {MAX_XML >> 20} MiB, the most that the protocol carries")
    if (zero := data.find(0)) >= 0:
        raise click.ClickException(f"{what} is no XML: byte {zero + 1} is zero")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{what} is not UTF-8: byte {error.start + 1} is {data[error.start]:#04x}") from None
