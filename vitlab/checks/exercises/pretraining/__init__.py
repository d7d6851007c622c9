"""The exercises of lesson 04: a step, schedules, a diagnosis, Adam, the colours of patches, a short recipe."""
