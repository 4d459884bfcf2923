"""NSGA-II: sampler, population, children, and the parents of stage 2."""
