"""``smnas data look``: what the data of a study are like, as numbers and as a page of HTML."""
