"""Programs that measure what a machine can do at most: each in a process of its own, without anything of ours."""
