"""Transformers for xinfer."""
