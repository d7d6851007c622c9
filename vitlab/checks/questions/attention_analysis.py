"""What follows from the numbers of lesson 06's quiz."""


def derive(
    to_class: float,
    dropped: float,
    renormalised: float,
    moved: float,
    rollout_hits: float,
    centre_hits: float,
) -> dict:
    """Distances that are wrong, and which of two maps points better."""
    return dict(
        multiplied=dropped * (1 - to_class),
        added=dropped + 100 * to_class,
        hits=f"{rollout_hits:.0%} and {centre_hits:.0%}",
        ahead=rollout_hits > centre_hits,
        not_ahead=rollout_hits <= centre_hits,
    )
