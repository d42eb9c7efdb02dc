"""Sample complexities over grids of instances, learners and noise: points, fits, bounds (docs/bound.md)."""
