"""A stand-in for Colab's module: there to be found, and empty, so that asking anything of it fails."""
