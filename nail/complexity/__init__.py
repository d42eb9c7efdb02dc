"""Sample complexities over grids of instances, learners and noise: points, fits, bounds with verdicts (docs/bound.md)."""
