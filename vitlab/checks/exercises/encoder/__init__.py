"""The exercises of lesson 03: a head, many heads, a block, and every parameter of a model."""
