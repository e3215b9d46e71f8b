"""`python -m xkd_ros.cli`, which torchrun starts."""

from xkd_ros.cli import main

if __name__ == "__main__":
    main()
