"""A libvirt client in pure Python, on the standard library alone.

``virlet.client.aio`` is for asyncio, ``virlet.client.sync`` blocks; both offer the same methods.
"""
