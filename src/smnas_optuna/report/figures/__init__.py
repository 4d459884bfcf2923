"""Pictures of a study: its front, its hypervolume, and its verification."""
