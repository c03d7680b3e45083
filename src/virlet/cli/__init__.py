"""The command line: ``virlet``.  It speaks through :mod:`virlet.client` and knows nothing below that."""
