"""An Optuna study on disk: its trials as plain records, known results, the front. No torch."""
