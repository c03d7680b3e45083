"""Plans: plain data that says what to run, what to open and what to make.  Nothing here does any of it."""
