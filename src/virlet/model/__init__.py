"""The domain XML as frozen, typed values: an element a class, a subject a file."""
