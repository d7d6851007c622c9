"""The exercises of lesson 04: a step, a schedule, a diagnosis, Adam, colours of patches, a short recipe."""
