"""Trainers of other frameworks, on the losses of this package."""
