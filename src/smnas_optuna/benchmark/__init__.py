"""``smnas benchmark``: detectors timed side by side in one run."""
