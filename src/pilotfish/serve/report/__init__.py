"""What is told of a server: metrics, statistics, logs and the console page."""
