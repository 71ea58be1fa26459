"""Programs that make one format of a model from another; each runs in an environment of its own, never in xinfer's."""
