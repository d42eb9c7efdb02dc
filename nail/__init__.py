"""Imitation learning from noisy experts: theory, environments, learners and figures in JAX."""

__version__ = "0.1.0"
