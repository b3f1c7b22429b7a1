"""``python -m llmatic_hpc`` is the command ``llmatic``."""

from .commands.main import main

if __name__ == "__main__":
    main()
