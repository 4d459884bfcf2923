"""Processes that share a study: started, replaced, claimed for, cleaned up after. No torch."""
