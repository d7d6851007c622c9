"""Muon, an optimizer younger than the paper, for the matrices of the encoder's blocks.

AdamW scales each number of a gradient by itself. Muon takes a matrix as a whole: its step has nearly the same
length along every singular vector, so that directions which show up little in the gradient are learnt as fast
as the loud ones. Keller Jordan and others, 2024, as PyTorch 2.9 and newer have it.
"""

import torch
from torch import Tensor, nn


def apart(model: nn.Module, groups: list[dict]) -> tuple[list[Tensor], list[dict]]:
    """The weight matrices of the model's blocks, and the groups without them.

    Raises ValueError for a model without trainable blocks.
    """
    matrices = [
        p
        for name, p in model.named_parameters()
        if ".blocks." in f".{name}" and p.ndim == 2 and p.requires_grad
    ]
    if not matrices:
        raise ValueError(
            "optimizer='muon' trains the matrices of an encoder's blocks, and this model has none"
        )
    taken = set(map(id, matrices))
    return matrices, [
        group | {"params": [p for p in group["params"] if id(p) not in taken]} for group in groups
    ]


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for `matrices`, and AdamW for the `rest`, which is groups of parameters, as one optimizer.

    Muon's step is scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982): one learning rate serves
    both. Raises ValueError where PyTorch is older than 2.9.
    """

    def __init__(self, matrices: list[Tensor], rest: list[dict], learning_rate: float, weight_decay: float):
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"optimizer='muon' needs PyTorch 2.9 or newer; this is {torch.__version__}")
        self.muon = torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.999), fused=True)
        super().__init__(self.muon.param_groups + self.adamw.param_groups, {})
        self.share()

    def share(self) -> None:
        """Let both work on the groups and the state that this one shows, saves and loads."""
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self.muon.state = self.adamw.state = self.state

    def step(self) -> None:
        """Take one step."""
        self.muon.step()
        self.adamw.step()

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.share()
