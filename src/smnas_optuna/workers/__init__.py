"""Processes that share a study: start, replacement, claims and recovery. No torch."""
