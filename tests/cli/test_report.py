"""Errors in words: hints taken apart, nothing that could drive a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.cli.exits import Exit
from virlet.cli.report import report, split_hints
from virlet.errors import NoDomain, OperationFailed, SystemFailure


@pytest.mark.parametrize(
    ("message", "text", "hints"),
    [
        ("no", "no", []),
        ("no (hint: try yes)", "no", ["try yes"]),
        ("no (really) (hint: try 'f(x)' (or not))", "no (really)", ["try 'f(x)' (or not)"]),
        ("one (hint: a); two (hint: b)", "one; two", ["a", "b"]),
        ("cut (hint: never closed", "cut", ["never closed"]),
    ],
)
def test_hints_are_taken_out_of_a_message(message: str, text: str, hints: list[str]) -> None:
    assert split_hints(message) == (text, hints)


@given(st.text(st.sampled_from("ab ();"), max_size=30), st.text(st.sampled_from("ab"), min_size=1, max_size=10))
def test_whatever_the_message_a_hint_at_its_end_is_found(message: str, hint: str) -> None:
    text, hints = split_hints(f"{message} (hint: {hint})")
    assert hints == [hint]
    assert text == message.strip()


def test_an_error_without_a_hint_is_given_one_where_the_next_step_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(NoDomain("no domain with matching name 'x'")) is Exit.NO_DOMAIN
    assert capsys.readouterr().err == (
        "error: Domain not found: no domain with matching name 'x'\nhint: 'virlet ls --all' lists all domains\n"
    )


def test_control_characters_of_a_server_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(OperationFailed("\x1b]0;gotcha\x07\x9b31m"))
    assert capsys.readouterr().err == "error: operation failed: \\x1b]0;gotcha\\x07\\x9b31m\n"


def test_an_error_of_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    report(OperationFailed("at line 1:\n<a>\n--^"))
    assert capsys.readouterr().err == "error: operation failed: at line 1:\n<a>\n--^\n"


def test_errors_of_the_kernel_are_told_in_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FileNotFoundError(2, "No such file or directory", "/x")) is Exit.FAILED
    assert report(SystemFailure.of(PermissionError(13, ""), "cannot open /y")) is Exit.FAILED
    assert capsys.readouterr().err == (
        "error: /x: No such file or directory\nerror: cannot open /y: Permission denied\n"
    )


def test_a_bug_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyError("x")) is Exit.FAILED
    assert capsys.readouterr().err == (
        "error: internal error: KeyError: 'x'\n"
        "hint: this is a bug in virlet; run the command again with --debug and report what it prints\n"
    )
