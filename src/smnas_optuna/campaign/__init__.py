"""``smnas search``: both stages, joint timing and verification in one command, with a budget in hours or trainings."""
