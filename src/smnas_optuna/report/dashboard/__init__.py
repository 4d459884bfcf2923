"""optuna-dashboard of a study, read-only, with pictures and notes that are made when they are looked at."""
