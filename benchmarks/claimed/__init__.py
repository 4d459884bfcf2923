"""Parts of ``benchmarks/claim.py``: its processes, the measurement of latencies, its answer, and its picture."""
