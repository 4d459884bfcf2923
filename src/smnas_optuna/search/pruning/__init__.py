"""Rules that end a trial early: over budget, dominated, behind at a rung, or too slow to train."""
