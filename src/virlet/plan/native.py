"""A plan as shell lines that can be pasted: for ``domxml-to-native``, ``explain`` and the log."""

from __future__ import annotations

from virlet.plan.base import LaunchPlan

__all__ = ["native"]


def native(plan: LaunchPlan) -> str:
    """What a start would really launch: descriptors, helpers, QEMU, in order, one shell line each."""
    raise NotImplementedError
