"""The Markov chain keeps xinfer's contract."""

from xinfer.testing import EngineContract


class TestMarkov(EngineContract):
    engine = "markov"
    overrides = ("model=capitals",)
    ending = "The capital of France is Paris"
