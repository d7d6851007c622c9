"""`python -m vitlab.training`."""

from vitlab.training.command import main

if __name__ == "__main__":
    main()
