"""The long form: ``python tests/fuzz/soak.py [--inputs N] [--watch N] [--grow] [NAME…]``; prints a table.

Branches are counted over the corpus and the first ``--watch`` inputs, so what is printed is the least that was reached.
``--grow`` adds inputs that reach something new to the corpus.  Exit code 1: a parser broke its promise, or too few
branches were reached.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import resource
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

from coverage.exceptions import CoverageWarning
from fuzz_targets import TARGETS
from fuzzing import Broken, Cover, Mutator, Target, corpus, keep, throw

ENOUGH = 0.90
"""Share of the branches that the soak has to reach."""
BATCH = 50
SMALL = 2048
"""Bytes of an input that is kept."""
GROWTH = 64
"""MiB by which the process may grow while a parser reads everything that is not watched."""
MEMORY = 1 << 30
"""Bytes that all parsers together may need beside the interpreter."""


def resident() -> int:
    """Bytes of memory that we have now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Soak:
    """One parser's."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.accepted = 0
        self.cover = Cover(target)
        self._one = Cover(target)
        self._known: set[tuple[str, int, int]] = set()

    def watched(self, batch: list[bytes]) -> list[bytes]:
        """Those of *batch* that reach what nothing before them has reached."""
        with self.cover.watching():
            self.accepted += sum(throw(self.target, data) for data in batch)
        if self.cover.arcs() <= self._known:
            return []
        found = []
        for data in batch:
            self._one.forget()
            with self._one.watching():
                throw(self.target, data)
            if not (reached := self._one.arcs()) <= self._known:
                self._known |= reached
                found.append(data)
        return found

    def run(self, inputs: int, watch: int, grow: bool) -> tuple[bool, str]:
        """Whether it kept its promise and enough was reached, and a line of the table."""
        begun, target = time.process_time(), self.target
        kept = self.watched([*corpus(target.name), *target.seeds()])
        self.accepted = 0
        mutator = Mutator((*target.seeds(), *kept), target.words, seed=inputs)
        supply = itertools.islice(mutator, inputs)
        some = itertools.islice(supply, watch)
        while batch := list(itertools.islice(some, BATCH)):
            for data in self.watched(batch):
                kept.append(data)
                mutator.keep(data)
        self.cover.count()
        if grow:
            seeds = target.seeds()
            found = [data for data in kept if len(data) <= SMALL and data not in seeds]
            keep(target.name, dict.fromkeys((*corpus(target.name), *found)))
        size = resident()
        self.accepted += sum(throw(target, data) for data in supply)
        more = (resident() - size) >> 20
        return self._good(more), self._line(inputs, len(kept), more, time.process_time() - begun)

    def _good(self, more: int) -> bool:
        return self.cover.share >= ENOUGH and more <= GROWTH

    def _line(self, inputs: int, kept: int, more: int, seconds: float) -> str:
        cover = self.cover
        line = (
            f"{self.target.name:<12}{inputs:>9,}{self.accepted:>9,}{kept:>8}{cover.reached:>6}/{cover.every:<5}"
            f"{cover.share:>6.1%}{1e6 * seconds / max(1, inputs):>9.0f}{more:>7}"
        )
        return line if cover.share >= ENOUGH else f"{line}  missed {', '.join(cover.missed[:30])}"


def main(argv: Iterable[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--watch", type=int, default=5_000)
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("names", nargs="*")
    said = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", CoverageWarning)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (resident() + MEMORY, hard))
    print(f"{'parser':<12}{'inputs':>9}{'accepted':>9}{'corpus':>8}{'branches':>12}{'':>6}{'µs each':>8}{'+MiB':>7}")
    good = True
    for target in TARGETS:
        if said.names and target.name not in said.names:
            continue
        try:
            fine, line = Soak(target).run(said.inputs, said.watch, said.grow)
        except Broken as error:
            fine, line = False, f"{target.name:<12}BROKEN {error}"
        good &= fine
        print(line, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
