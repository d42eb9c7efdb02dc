"""Columns of a table of measured n*, one row a point: what was found, and what a bound reads of the instance."""

N_STAR = "n-star"
"""the figure whose points they are, in a folder"""
ANSWERS = (
    "n_star", "low", "high", "queries", "queries_low", "queries_high", "censored", "resolution", "mean_loss", "oracle",
    "allowed", "wider",
)  # fmt: skip
"""columns of a measured n*: episodes and expert queries with their intervals, infinite where the budget of episodes did
not suffice (`censored`), what a query reads, the episodes that a search was held to, and the intervals of higher levels
(`nail.complexity.intervals`)"""
OF_THE_INSTANCE = ("q", "R", "logPi", "noise_kernel")
"""columns for bounds: least chance of a right label, largest return, log of the number of deterministic policies; and
the noise kernel in words"""
UNITS = {"episodes": ("n_star", "low", "high"), "labels": ("queries", "queries_low", "queries_high")}
"""what n* is counted in → columns of its value and of its 95 % interval"""
MEASURED_BY = "nail.complexity.points"
"""the module whose revision the rows are of"""
