"""Puts this directory where its modules find each other; importmode=importlib adds no path by itself."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
