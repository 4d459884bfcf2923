"""``smnas evaluate``: what a trained detector finds in given images, in numbers, and where it is wrong."""
