"""``python -m mdive``."""

from mdive.cli import main

if __name__ == "__main__":
    main()
