"""Measures Penstock against simpler things in the same run on the same machine, because only ratios can be compared.

One module per measurement, each with `measure(plan, say)`. What it compares with, and who loads it, are processes of
their own, so that the one who measures takes no time from the one who is measured.
"""

MEASUREMENTS = ("accept", "idle", "dispatch", "throughput", "recover", "stream", "memory", "stored")
