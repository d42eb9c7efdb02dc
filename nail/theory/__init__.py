"""What the theory predicts: exact success probabilities, bounds, and fits that tell exponential from
polynomial growth."""
