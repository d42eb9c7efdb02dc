"""Count-based learners in thousands of replicates, and the sample complexities measured with them."""

INSTANCES = ("poison-chain", "hidden-path")
"""instances that are simulated level by level, without tables of states (nail/counting/levels.py, paths.py)"""
