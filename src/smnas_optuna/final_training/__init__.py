"""``smnas train``: one detector of a study, trained from scratch for as long as it deserves."""
