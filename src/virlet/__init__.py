"""Virtual machines for people who have no root.

Importing this package costs next to nothing: it pulls in no other module.  Use :mod:`virlet.client` to talk
to virletd or to libvirtd.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
