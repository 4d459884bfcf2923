"""``smnas predict``: objects in pictures of one's own, drawn and as JSON. No torch; the detector may bring it."""
