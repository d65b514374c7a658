"""Networks with exits inside: a cascade whose stages share a backbone (``design``: the carry)."""
