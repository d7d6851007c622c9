"""The exercises of lesson 03: a head, many heads, a block, every parameter of a model, a fault to find."""
