"""What follows from the numbers of lesson 04's quiz."""


def derive(
    steps: int,
    accuracy: float,
    hardest: str,
    hardest_accuracy: float,
    resnet_lead: float,
    lead_spread: float,
) -> dict:
    """How often an image was seen, on batches of 64; the accuracy of nine classes, in %, and wrong ones."""
    shown = 64 * steps
    return dict(
        shown=shown,
        seen=shown / 60_000,
        divided=steps / 64,
        inverse=60_000 / shown,
        others=100 * (10 * accuracy - hardest_accuracy) / 9,
        mean=100 * accuracy,
        half_way=50 * (accuracy + hardest_accuracy),
    )
