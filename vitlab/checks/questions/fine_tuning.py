"""What follows from the numbers of lesson 05's quiz."""


def derive(features: float, pixels: float, repeated: float, mended: float, resized: float) -> dict:
    """How far two probes on 1,000 images are apart, beside what chance alone makes, and which one leads."""
    lead = features - pixels
    error = (features * (1 - features) / 1000 + pixels * (1 - pixels) / 1000) ** 0.5
    apart = abs(lead) > 2 * error
    words = (
        f"They differ by {100 * lead:+.1f} points; chance alone makes differences of about {100 * error:.1f}."
    )
    return dict(
        words=words,
        features_lead=apart and lead > 0,
        pixels_lead=apart and lead <= 0,
        neither=not apart,
    )
