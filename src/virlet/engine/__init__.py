"""Carries plans out and owns the guests."""
