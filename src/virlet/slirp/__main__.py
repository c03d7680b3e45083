"""``python -m virlet.slirp``: the helper where no script of it is installed."""

from __future__ import annotations

import sys

from virlet.slirp.main import main

if __name__ == "__main__":
    sys.exit(main())
