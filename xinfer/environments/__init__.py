"""Directories that are made once and then only used: engines, tools and weights."""
