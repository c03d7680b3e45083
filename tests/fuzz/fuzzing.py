"""Throw bytes at a parser and see that it keeps its word; the same for CI and, with many more, for the soak.

The inputs come from :class:`Mutator`: half of them are valid ones that were damaged, half are made of the parser's own
words and of noise.  hypothesis, which has the properties of single modules, takes a millisecond for an example and can
damage nothing, so this is forty lines of our own; coverage.py says which branches were reached.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import coverage

import virlet
from virlet.errors import VirletError

LARGEST = 1 << 13
"""Bytes of an input at most."""
CPU_SECONDS = 3.0
"""What one input may cost: a thousand times what one usually costs."""
CORPUS = Path(__file__).parent / "corpus"
SOURCE = Path(virlet.__path__[0])


@dataclass(frozen=True)
class Target:
    """A parser and what it promises."""

    name: str
    promise: str
    """For people; *run* sees to it."""
    run: Callable[[bytes], object]
    """Raises nothing but *errors*, or AssertionError where the parser broke its promise."""
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...]
    covers: tuple[str, ...]
    """Modules whose branches count, below ``virlet``; ``module.py:regex`` for functions of it."""
    errors: tuple[type[BaseException], ...] = (VirletError,)
    spared: str = ""
    """Functions in *covers* that the parser does not reach, as a regular expression."""


class TooSlow(BaseException):
    """An input took longer than :data:`CPU_SECONDS`."""


class Broken(Exception):
    """A parser did not keep its promise."""

    def __init__(self, target: Target, data: bytes, why: BaseException) -> None:
        super().__init__(f"{target.name}: {type(why).__name__}: {why}; input: {data!r}")


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow(f"more than {CPU_SECONDS} s of CPU")


def throw(target: Target, data: bytes) -> bool:
    """Whether *data* was accepted; raises :class:`Broken`."""
    before = signal.signal(signal.SIGVTALRM, _late)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        target.run(data)
    except target.errors:
        return False
    except (Exception, TooSlow) as error:
        raise Broken(target, data, error) from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return True


# Inputs

_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"65535",
    b"65536",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"9" * 400,
    b"",
)
_INTEGERS = (0, 1, 2, 4, 27, 28, 29, 127, 128, 255, 256, 65535, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_DIGITS = re.compile(rb"[0-9]+")


class Mutator:
    """An endless supply of inputs; the same *seed*, the same inputs."""

    def __init__(self, valid: Iterable[bytes], words: tuple[bytes, ...], seed: int) -> None:
        self._valid = [item for item in valid if len(item) <= LARGEST] or [b""]
        self._words = words or (b"",)
        self._random = random.Random(seed)
        self._changes = (
            self._flip, self._cut, self._double, self._word, self._integer, self._number, self._splice, self._noise,
            self._end, self._swap,
        )  # fmt: skip

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._damaged()
            yield self._made()

    def keep(self, data: bytes) -> None:
        """One that reached something new is worth damaging, too."""
        self._valid.append(data)

    def _damaged(self) -> bytes:
        data = self._random.choice(self._valid)
        for _ in range(self._random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            data = self._random.choice(self._changes)(data)
        return data[:LARGEST]

    def _made(self) -> bytes:
        pick, pieces = self._random, []
        for _ in range(pick.choice((1, 2, 4, 8, 16, 32))):
            kind = pick.random()
            if kind < 0.7:
                pieces.append(pick.choice(self._words))
            elif kind < 0.8:
                pieces.append(pick.randbytes(pick.choice((1, 2, 4, 8))))
            elif kind < 0.9:
                pieces.append(self._span(pick.choice(self._valid)))
            else:
                again = pick.choice(pieces) if pieces else b""
                pieces.append((again * pick.choice((2, 3, 50, 2000)))[:LARGEST])
        return b"".join(pieces)[:LARGEST]

    def _place(self, data: bytes) -> tuple[int, int]:
        first = self._random.randrange(len(data) + 1)
        return first, min(len(data), first + self._random.choice((0, 1, 1, 2, 4, 8, 16, 64)))

    def _span(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[first:last]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]

    def _cut(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:first] + data[last:]

    def _double(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:last] + data[first:last] * self._random.choice((1, 1, 2, 20)) + data[last:]

    def _word(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:first] + self._random.choice(self._words) + data[self._random.choice((first, last)) :]

    def _integer(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data) + 1) & ~3
        order = self._random.choice(("big", "big", "little"))
        return data[:at] + self._random.choice(_INTEGERS).to_bytes(4, order) + data[at + 4 :]

    def _number(self, data: bytes) -> bytes:
        found = list(_DIGITS.finditer(data))
        if not found:
            return data
        one = self._random.choice(found)
        return data[: one.start()] + self._random.choice(_NUMBERS) + data[one.end() :]

    def _splice(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:first] + self._span(self._random.choice(self._valid)) + data[last:]

    def _noise(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:first] + self._random.randbytes(self._random.choice((1, 2, 8))) + data[last:]

    def _end(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data) + 1)]

    def _swap(self, data: bytes) -> bytes:
        first, last = self._place(data)
        return data[:first] + data[last : 2 * last - first] + data[first:last] + data[2 * last - first :]


def pieces(data: bytes) -> Iterator[list[bytes]]:
    """Ways in which *data* may arrive: byte by byte, and in two and in a few pieces; always the same for the same."""
    if len(data) <= 300:
        yield [data[at : at + 1] for at in range(len(data))]
    pick = random.Random(data)
    for count in (1, 4):
        cuts = sorted({0, len(data), *(pick.randrange(len(data) + 1) for _ in range(count))})
        yield [data[first:last] for first, last in itertools.pairwise(cuts)]


# Branches


@dataclass
class Cover:
    """Which branches of a target's modules were reached."""

    target: Target
    reached: int = 0
    every: int = 0
    missed: list[str] = field(default_factory=list)
    measure: coverage.Coverage = field(init=False)

    def __post_init__(self) -> None:
        files = [str(SOURCE / each.partition(":")[0]) for each in self.target.covers]
        self.measure = coverage.Coverage(
            data_file=None, config_file=False, branch=True, include=files, check_preimported=False, messages=False
        )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count what runs meanwhile."""
        self.measure.start()
        try:
            yield
        finally:
            self.measure.stop()

    def forget(self) -> None:
        """Begin anew."""
        self.measure.erase()

    def arcs(self) -> set[tuple[str, int, int]]:
        """What was run so far."""
        data = self.measure.get_data()
        return {(name, *arc) for name in data.measured_files() for arc in data.arcs(name) or ()}

    def count(self) -> None:
        """Fill in the numbers."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            self.measure.json_report(outfile=out.name)
            files = json.load(out)["files"]
        wanted = [each.partition(":")[::2] for each in self.target.covers]
        for name, report in files.items():
            patterns = [pattern for file, pattern in wanted if name.endswith(file)]
            for function, found in report["functions"].items():
                if not function or not any(re.search(pattern, function) for pattern in patterns):
                    continue
                if self.target.spared and re.search(self.target.spared, function):
                    continue
                self.every += found["summary"]["num_branches"]
                self.reached += found["summary"]["covered_branches"]
                self.missed += [f"{Path(name).name}:{a}->{b}" for a, b in found["missing_branches"]]

    @property
    def share(self) -> float:
        """1.0: every branch."""
        return self.reached / self.every if self.every else 1.0


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a target, each of which reached something that those before it had not."""
    path = CORPUS / f"{name}.jsonl"
    return [json.loads(line).encode("latin-1") for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, items: Iterable[bytes]) -> None:
    """Write them, readable as far as they are text."""
    CORPUS.mkdir(exist_ok=True)
    lines = [json.dumps(item.decode("latin-1")) for item in items]
    (CORPUS / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
