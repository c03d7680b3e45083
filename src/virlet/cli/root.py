"""The command tree: options that every command takes, and a group that imports a command when it is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import click

from virlet import __version__
from virlet.cli.app import App
from virlet.cli.catalog import CATALOG, SECTIONS, Entry
from virlet.cli.exits import MEANINGS

__all__ = ["Command", "Root", "command", "pass_app", "root"]

pass_app = click.make_pass_decorator(App, ensure=True)
"""Gives the command its :class:`App` as the first argument."""


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a common option in the :class:`App`; given before or after the command, the last one counts."""
    if value and param.name:
        setattr(ctx.ensure_object(App), param.name, value)


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["-c", "--connect", "uri"],
            metavar="URI",
            help="Server to talk to (default: VIRLET_URI, else your own virletd, started when needed).",
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Print JSON: one document, or a line each for streams.",
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            help="Show the traceback of an error.",
            expose_value=False,
            callback=_remember,
        ),
    ]


COMMON = ("uri", "as_json", "debug")


class Command(click.Command):
    """A command of virlet's: it takes the common options too."""

    def __init__(self, name: str | None, params: Sequence[click.Parameter] | None = None, **kwargs: Any) -> None:
        super().__init__(name, params=[*(params or ()), *_common()], **kwargs)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first, the common ones apart."""
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                (common if param.name in COMMON or param.name == "help" else own).append(record)
        for title, records in (("Options", own), ("Common options", common)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(name: str | None = None, **attrs: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command; its docstring is its help, without the sections that are for programmers."""
    return click.command(name, cls=Command, **attrs)


class Root(click.Group):
    """``virlet``: lists its commands from the catalog."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the help."""
        return list(CATALOG)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the chosen command."""
        entry = CATALOG.get(cmd_name)
        return None if entry is None else load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with the commands that an unknown one may have meant."""
        if args and args[0] not in CATALOG and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}{_meant(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By section, importing none."""
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])


def load(entry: Entry) -> click.Command:
    """The command that *entry* names."""
    module = importlib.import_module(f"virlet.cli.commands.{entry.module}")
    found = getattr(module, entry.attribute)
    assert isinstance(found, click.Command)
    return found


def _meant(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, CATALOG, n=2)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"virlet {__version__}")
        ctx.exit()


root = Root(
    name="virlet",
    help="Virtual machines without root.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        *_common(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the version of this program.",
        ),
    ],
)
"""The whole tree."""
