"""Other people's load generators behind the same workload: started as programs of their own, read into one schema."""
