"""Network backends: one a file, each a pure planner behind :class:`virlet.net.base.NetBackend`."""
