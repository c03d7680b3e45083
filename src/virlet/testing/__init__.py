"""For those who write a network backend: prove that it holds what virlet expects of one (docs/backends.md).

``virlet.testing.backends``   :class:`NetBackendKit`: what holds for every backend, without starting anything
``virlet.testing.live``       :class:`LiveBackendKit`: the test guest boots on the backend
``virlet.testing.scene``      a host as a test wants it: facts and environments
``virlet.testing.guest``      the control channel of the test guest

The kits are plain classes with ``test_…`` methods, for pytest, for unittest (beside ``TestCase``), or to be called.
"""
