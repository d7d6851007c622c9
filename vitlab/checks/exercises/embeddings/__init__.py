"""The exercises of lesson 02: project patches, make the sequence, compare positions, stretch them."""
