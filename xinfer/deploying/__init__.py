"""What others run from a launch plan: container, cluster, batch and service definitions, one small module for each."""
