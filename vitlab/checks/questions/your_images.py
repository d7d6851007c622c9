"""What follows from the numbers of lesson 07's quiz."""


def derive(
    image_size: int, held_out: int, fine_tuned: float, from_scratch: float, kept: float, passed: float
) -> dict:
    """Ranges of two accuracies, whether two standard errors tell them apart, and right answers lost."""
    (low, high), (low_scratch, high_scratch) = (_interval(x, held_out) for x in (fine_tuned, from_scratch))
    error = sum(share * (1 - share) / held_out for share in (fine_tuned, from_scratch)) ** 0.5
    apart = abs(fine_tuned - from_scratch) > 2 * error
    return dict(
        ranges=f"{low:.0%} to {high:.0%}, and {low_scratch:.0%} to {high_scratch:.0%}",
        apart=apart,
        overlap=not apart,
        lost=1 - kept,
    )


def _interval(share: float, number: int) -> tuple[float, float]:
    """The 95 % range of a true share (Wilson 1927)."""
    middle, spread = share + 1.92 / number, 1.96 * (share * (1 - share) / number + 0.96 / number**2) ** 0.5
    return (middle - spread) / (1 + 3.84 / number), (middle + spread) / (1 + 3.84 / number)
