"""XML as values: bounded parsing with positions, and elements declared once for reading, printing and reference."""

from __future__ import annotations

from virlet.xml.dumper import dump
from virlet.xml.loader import Loaded, load
from virlet.xml.parser import Limits, Node, parse
from virlet.xml.raw import Raw, Unknown
from virlet.xml.source import Source

__all__ = ["Limits", "Loaded", "Node", "Raw", "Source", "Unknown", "dump", "load", "parse"]
