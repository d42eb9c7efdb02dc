"""Count-based learners in thousands of replicates, and the sample complexities measured with them."""
