"""A Hydra application with an empty configuration: what any command line on Hydra costs at least."""

from __future__ import annotations

from typing import Any

import hydra


@hydra.main(version_base="1.3", config_path=None, config_name=None)
def main(_config: Any) -> None:
    """Do nothing."""


if __name__ == "__main__":
    main()
