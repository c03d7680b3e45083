"""Libraries imported without the parts of them that nothing of ours uses.

``asyncio`` and ``qemu.qmp`` both import ``ssl``, and that OpenSSL: 2.5 MB in a daemon that talks to local sockets
alone.  ``asyncio`` does without where Python was built without OpenSSL; ``qemu.qmp`` wants one name for annotations.
Whoever imports ``ssl`` later gets the real one; only asyncio's own TLS transports are not to be had then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["without"]


@contextmanager
def without(module: str, *names: str) -> Iterator[None]:
    """Inside, imports of *module* fail as if it were not installed, unless it was imported before.

    With *names* they succeed instead, and find that many empty classes, for a library that only annotates with them.
    A ``None`` in ``sys.modules`` is how Python's import system reference says that a module is not to be had.
    """
    if module in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[module] = _stand_in(module, names) if names else None
    try:
        yield
    finally:
        del modules[module]


def _stand_in(module: str, names: tuple[str, ...]) -> ModuleType:
    made = ModuleType(module)
    for name in names:
        setattr(made, name, type(name, (), {"__module__": module}))
    return made
