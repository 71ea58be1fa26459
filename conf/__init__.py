"""What can be asked for: one folder per group. Hydra and setuptools only count a folder that is a package."""
