"""``python -m botorch_roma``."""

from botorch_roma.cli import main

if __name__ == "__main__":
    main()
