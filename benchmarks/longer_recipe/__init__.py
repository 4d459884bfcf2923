"""What ``benchmarks/longer.py`` tries: mosaics, colour, and averages of the weights."""
