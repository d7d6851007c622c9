"""The exercises of lesson 04: a training step, a schedule, a diagnosis, the colours of masked patches."""
