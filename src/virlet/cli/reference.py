"""The reference page of the command line, written from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from virlet.cli.catalog import SECTIONS
from virlet.cli.exits import MEANINGS
from virlet.cli.root import COMMON, load, root

__all__ = ["page"]

INTRODUCTION = """\
<!-- Written by script/gen-cli-docs from the commands; do not edit. -->

# The `virlet` command

`virlet` talks to your own `virletd` over libvirt's protocol and starts it when it does not run. With `--connect` it
talks to any other server that speaks the protocol, libvirt's daemons included; what only virletd can do
(`explain`, `port`, `logs`, `doctor`, `compat`, helper events) then ends with exit code {unsupported}.

A domain is named by its name, its UUID or, while it runs, its id, tried in this order.

## What it prints

* On a terminal: tables and colours. `NO_COLOR` switches the colours off.
* Elsewhere: plain text that stays the same from release to release. A table is one line a row without a heading, cells
  separated by a tab, `-` for an empty cell: `virlet ls --all | cut -f2`.
* With `--json`, anywhere: one JSON document, or one JSON object a line from commands that go on (`events`,
  `logs --follow`). New members may be added; existing ones keep their meaning.

Errors go to standard error as `error: …`, followed by `hint: …` where there is a next step. With `--json` they are one
object a line: `{{"error": {{"message": …, "hints": […], "code": …, "domain": …}}}}`, the numbers being libvirt's
(`virErrorNumber`, `virErrorDomain`). A traceback is shown with `--debug` only.

## Environment

| variable | meaning |
|---|---|
| `VIRLET_URI` | the server to talk to when there is no `--connect` |
| `VIRLET_AUTOSTART` | `0`: never start virletd |
| `XDG_RUNTIME_DIR` | where the daemon's socket is looked for: in `virlet/` below it, without it in `/tmp/virlet-UID` |
| `NO_COLOR` | no colours |
| `VISUAL`, `EDITOR` | the editor of `virlet edit` |

## Shell completion

bash: `eval "$(_VIRLET_COMPLETE=bash_source virlet)"`, zsh: `eval "$(_VIRLET_COMPLETE=zsh_source virlet)"`, fish:
`_VIRLET_COMPLETE=fish_source virlet | source`, each in the shell's start-up file. Commands and options are completed,
and names of domains while the daemon runs; completing starts nothing.
"""


def page() -> str:
    """The whole of ``docs/cli.md``."""
    from virlet.cli.exits import Exit

    return "\n".join([INTRODUCTION.format(unsupported=int(Exit.UNSUPPORTED)), *_exits(), *_common(), *_commands()])


def _exits() -> Iterator[str]:
    yield "## Exit codes\n"
    yield "| code | meaning |\n|--:|---|"
    yield from (f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())
    yield ""


def _common() -> Iterator[str]:
    yield "## Options that every command takes\n"
    yield from _options([param for param in root.params if param.name in COMMON])


def _commands() -> Iterator[str]:
    for title, entries in SECTIONS.items():
        yield f"## {title}\n"
        for name, entry in entries.items():
            yield from _command(name, load(entry))


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"virlet {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"### virlet {name}\n"
    yield f"```\nvirlet {name} {usage}\n```\n"
    yield _markdown(command.help or "")
    yield from _options([param for param in command.params if param.name not in COMMON])


def _markdown(text: str) -> str:
    r"""Click's help as Markdown: ``\b`` marks a paragraph whose lines stay as they are."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return (
        "\n\n".join(re.sub(r"^\x08\n(.*)$", r"```\n\1\n```", paragraph, flags=re.DOTALL) for paragraph in paragraphs)
        + "\n"
    )


def _options(params: list[click.Parameter]) -> Iterator[str]:
    records = [
        (", ".join([*param.opts, *param.secondary_opts]) + _metavar(param), param.help or "")
        for param in params
        if isinstance(param, click.Option) and not param.hidden
    ]
    if records:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{option}` | {meaning} |" for option, meaning in records)
        yield ""


def _metavar(option: click.Option) -> str:
    return "" if option.is_flag else " " + (option.metavar or option.type.name.upper())
