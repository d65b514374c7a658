"""What running a model costs."""
