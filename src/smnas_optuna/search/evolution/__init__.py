"""NSGA-II: its sampler, its population, its children, and the parents of stage 2."""
