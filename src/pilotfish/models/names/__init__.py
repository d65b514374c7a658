"""Names of models, and how each form of them is loaded."""
