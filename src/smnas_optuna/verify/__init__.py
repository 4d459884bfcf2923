"""``smnas verify``: front members and baselines, retrained with new seeds for more epochs."""
