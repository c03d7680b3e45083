"""The reference page and the help say what the commands do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from virlet.cli.catalog import CATALOG
from virlet.cli.exits import MEANINGS
from virlet.cli.reference import page
from virlet.cli.root import COMMON, load

if TYPE_CHECKING:
    from tests.cli.conftest import Virlet

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run script/gen-cli-docs"


def test_the_page_has_every_command_option_and_exit_code() -> None:
    text = page()
    for name, entry in CATALOG.items():
        assert f"### virlet {name}\n" in text
        for param in load(entry).params:
            assert not isinstance(param, click.Option) or f"`{param.opts[0]}" in text
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in text


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalog_says_what_the_command_says(name: str) -> None:
    command = load(CATALOG[name])
    assert command.name == name
    assert command.help
    assert command.help.partition("\n\n")[0].replace("\n", " ") == CATALOG[name].summary
    assert set(COMMON) <= {param.name for param in command.params}


def test_names_are_completed_from_a_running_server_and_nothing_is_started(virlet: Virlet, server, xml) -> None:  # type: ignore[no-untyped-def]
    server.define(xml("web"))
    server.define(xml("wiki"))
    words = {"_VIRLET_COMPLETE": "bash_complete", "COMP_WORDS": "virlet start w", "COMP_CWORD": "2"}
    assert virlet(env=words).out.split() == ["plain,web", "plain,wiki"]
    words |= {"COMP_WORDS": "virlet st", "COMP_CWORD": "1"}
    assert virlet(env=words).out.split() == ["plain,start"]
    nobody = {"VIRLET_URI": "", "COMP_WORDS": "virlet start w", "COMP_CWORD": "2"}
    assert virlet(env=words | nobody).out.strip() == ""


@pytest.mark.parametrize(
    "path", sorted(PAGE.parent.glob("*.md")) + [PAGE.parents[1] / "README.md"], ids=lambda p: p.name
)
def test_every_command_that_a_page_names_exists(path: Path) -> None:
    # After a bar only in a pipe: a table's cell may well begin with "virlet cannot".
    words = set(re.findall(r"(?m)(?:`|\$\(|    |^[^|].*\| )virlet ([a-z]+)", path.read_text()))
    assert words <= set(CATALOG), words - set(CATALOG)
