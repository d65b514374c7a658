"""From what a model returns to logits."""
