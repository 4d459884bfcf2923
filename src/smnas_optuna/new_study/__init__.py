"""A new study: facts of the data and the device -> values -> a commented ``study.toml``."""
