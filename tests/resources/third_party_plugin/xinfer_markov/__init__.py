"""A Markov chain as an inference engine for xinfer."""
