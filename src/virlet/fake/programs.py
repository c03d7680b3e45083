"""Install the fake QEMU and the fake passt as programs that a plan can name."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["install"]

_SCRIPT = """#!{python} -I
import json, sys
sys.path[:0] = {path!r}
from virlet.fake.{name} import main
sys.exit(main(behaviour=json.loads({behaviour!r})))
"""


def install(path: Path, name: str, behaviour: Mapping[str, object] | None = None) -> Path:
    """Write the executable *path* that is the fake *name* (``qemu`` or ``passt``) and behaves so; returns *path*.

    One that is there is replaced: it may be about to be executed, and then nobody may write to it (ETXTBSY).
    """
    import virlet

    source = str(Path(virlet.__path__[0]).parent)
    text = _SCRIPT.format(python=sys.executable, path=[source], name=name, behaviour=json.dumps(dict(behaviour or {})))
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o755)
    return new.replace(path)
