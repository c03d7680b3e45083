"""Ask the slirp helper what it can do; the library is loaded by the helper, never by the daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from virlet.engine.probe.run import run
from virlet.errors import InternalError
from virlet.plan.facts import SlirpHelperFacts, Support

__all__ = ["missing", "own_helper", "probe_slirp_helper"]


def own_helper() -> tuple[str, ...]:
    """virlet's own helper: the script beside the interpreter, else the module, which needs no script."""
    script = Path(sys.executable).with_name("virlet-slirp-helper")
    return (str(script),) if script.exists() else (sys.executable, "-P", "-m", "virlet.slirp")


async def probe_slirp_helper(command: tuple[str, ...]) -> SlirpHelperFacts:
    """What the helper that *command* starts can do.

    :raises SystemFailure: it cannot be run.
    :raises OperationTimeout: it does not answer.
    :raises InternalError: it says that it cannot work here, or is no slirp helper; its last line is the message.
    """
    outcome = await run((*command, "--print-capabilities"), "slirp helper --print-capabilities")
    try:
        said = json.loads(outcome.text)
        features = frozenset(map(str, said["features"]))
    except (ValueError, TypeError, KeyError):
        lines = outcome.text.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with {outcome.status} and said nothing"
        raise InternalError(reason.removeprefix("virlet-slirp-helper: ")) from None
    return SlirpHelperFacts(command, Support(True), features, str(said.get("libslirp", "")))


def missing(command: tuple[str, ...], reason: str) -> SlirpHelperFacts:
    """The "no" of a helper that could not say anything better."""
    hint = "install the package 'libslirp0' (libslirp)" if "libslirp" in reason else "see the setting slirp_helper"
    return SlirpHelperFacts(command, Support(False, reason, hint))
