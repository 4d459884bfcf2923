"""Trainings on the nodes of a Ray cluster, asked for by one process that holds the study."""
