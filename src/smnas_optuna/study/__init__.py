"""A study on disk: its trials as plain records, what is known, the front. Optuna, no torch."""
