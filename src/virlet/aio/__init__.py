"""Byte streams on the event loop that keep the file descriptors passed along."""
