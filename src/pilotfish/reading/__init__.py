"""Reading what other programs wrote: names that mean the same, sizes that are claimed, arrays without pickle."""
