"""Processes: started without privilege, known by identity, watched by pidfd; their ports and their logs."""
