"""Helpers that several tests share: brute-force references, strategies, small runs."""
