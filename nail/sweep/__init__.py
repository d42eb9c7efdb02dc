"""Sweeps: grids as data, lots of runs on disk, the engine that works on them, more machines."""
