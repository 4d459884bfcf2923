"""The page of ``smnas report``: the front to click, and behind each detector what a choice needs."""
