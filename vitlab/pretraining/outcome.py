"""What a training on Fashion-MNIST came to, as a study's row has it."""

from torch import nn

from vitlab import data
from vitlab.runtime import Run
from vitlab.studies import Row
from vitlab.training import History, evaluate


def outcome(model: nn.Module, history: History, test_images: int, run: Run) -> Row:
    """Accuracy and loss on the first test images, and at the end of the training on its last batch."""
    loss, accuracy = evaluate(model, data.fashion_mnist("test").subset(range(test_images)), run)
    return dict(
        test_accuracy=round(accuracy, 4),
        test_loss=round(loss, 4),
        train_accuracy=round(history.rows[-1]["accuracy"], 4),
        train_loss=round(history.rows[-1]["loss"], 4),
    )
