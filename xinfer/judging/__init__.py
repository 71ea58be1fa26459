"""Rules as data, and what they say of a model, a machine and an engine."""
