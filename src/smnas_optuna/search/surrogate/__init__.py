"""A surrogate of both objectives, which ranks the children of NSGA-II before one of them is trained."""
