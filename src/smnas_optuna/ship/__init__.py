"""``smnas export``: a trained front member as one proved file that runs without torch."""
