"""The short form of the fuzzing: every kept input again, and a few hundred new ones for each parser.

``script/soak`` has the long form (:mod:`soak`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import fuzz_monitor
import pytest
from fuzz_targets import TARGETS
from fuzzing import Broken, Mutator, Target, corpus, pieces, throw

from virlet.errors import VirletError

FRESH = 500
"""New inputs for each parser, the same in every run."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    fuzz_monitor.close()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_keeps_its_promise(target: Target) -> None:
    kept = [*corpus(target.name), *target.seeds()]
    for data in kept:
        throw(target, data)
    for data in itertools.islice(Mutator(kept, target.words, seed=1), FRESH):
        throw(target, data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_accepts_something(target: Target) -> None:
    """Otherwise nothing but refusals would have been tried."""
    assert any(throw(target, data) for data in target.seeds())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_has_kept_inputs(target: Target) -> None:
    assert corpus(target.name)


def _spoiled(data: bytes) -> None:
    if data == b"slow":
        while True:
            pass
    if data == b"bug":
        raise KeyError
    raise VirletError("no")


@pytest.mark.parametrize("data", [b"bug", b"slow"])
def test_a_broken_promise_is_told_with_the_input(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.CPU_SECONDS", 0.05)
    target = Target("spoiled", "nothing", _spoiled, list, (), ())
    assert not throw(target, b"")
    with pytest.raises(Broken, match=f"input: b'{data.decode()}'"):
        throw(target, data)


def test_pieces_are_the_whole() -> None:
    for data in (b"", b"a", bytes(range(256)), bytes(700)):
        assert all(b"".join(split) == data for split in pieces(data))


def test_the_same_seed_makes_the_same_inputs() -> None:
    first, second = (list(itertools.islice(Mutator([b"abc"], (b"x",), seed=5), 50)) for _ in range(2))
    assert first == second
