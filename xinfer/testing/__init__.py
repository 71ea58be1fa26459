"""Servers with a known behaviour, for the tests of xinfer and of its plugins."""
