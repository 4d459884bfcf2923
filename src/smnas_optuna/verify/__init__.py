"""``smnas verify``: front members and baselines, retrained with new seeds and for longer."""
