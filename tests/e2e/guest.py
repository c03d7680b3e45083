"""The control channel of the test guest, which the conformance kit has as well."""

from __future__ import annotations

from virlet.testing.guest import Console, GuestSilent, Lease

__all__ = ["Console", "GuestSilent", "Lease"]
