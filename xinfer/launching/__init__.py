"""Cells in other processes and on other machines: what is sent, who carries it, and what comes back."""
