"""Parts of ``search_efficiency.py``: table, compared samplers, statistics, and results for people."""
