"""Muon, an optimizer younger than the paper, for the matrices of the encoder's blocks.

AdamW scales each number of a gradient by itself. Muon takes a matrix as a whole: its step has nearly the same
length along every singular vector, so that directions which show up little in the gradient are learnt as fast
as the loud ones. Keller Jordan and others, 2024. Matrices of one shape go through its products together: with
small models that takes about half the time of `torch.optim.Muon`, where they go one after the other.
"""

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # chosen by the authors: small singular values grow fast
ITERATIONS = 5


def apart(model: nn.Module, groups: list[dict]) -> tuple[list[Tensor], list[dict]]:
    """The weight matrices of the model's blocks, and the groups without them.

    Raises ValueError for a model without blocks, and for one whose blocks are all frozen.
    """
    found = [p for name, p in model.named_parameters() if ".blocks." in f".{name}" and p.ndim == 2]
    matrices = [p for p in found if p.requires_grad]
    if not matrices:
        state = f"all {len(found)} of them in this model are frozen" if found else "this model has none"
        raise ValueError(
            f"optimizer='muon' trains the matrices of an encoder's blocks, and {state}; 'adamw' trains any "
            "model" + (", or set requires_grad on some of them" if found else "")
        )
    taken = set(map(id, matrices))
    return matrices, [
        group | {"params": [p for p in group["params"] if id(p) not in taken]} for group in groups
    ]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular values moved near 1, in bf16, by Newton and Schulz.

    Each turn puts an odd polynomial of the singular values in their place; after five, those above a
    hundredth of the matrix's norm lie between about 0.65 and 1.2.

    >>> moved = orthogonalise(torch.tensor([[[3.0, 0.0, 0.0], [0.0, 0.1, 0.0]]]))
    >>> (torch.linalg.svdvals(moved.float()) - 1).abs().max() < 0.35
    tensor(True)
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()  # the products below are of the shorter side
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        squares = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squares, squares, squares, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def adamw(groups: list[dict], learning_rate: float) -> torch.optim.AdamW:
    """AdamW with the paper's betas (section 4.1), fused where PyTorch's kernel reads the parameters right.

    On a CPU it goes through memory as it lies, from a tensor's first number on, and would mistake a parameter
    with gaps, such as every other column of a matrix.

    >>> adamw([{"params": [nn.Parameter(torch.zeros(4, 6)[:, ::2])]}], 1e-3).defaults["fused"]
    False
    """
    whole = all(lies_whole(p) for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), fused=whole)


def lies_whole(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie side by side in memory, in whatever order."""
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True)).is_contiguous()


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for `matrices`, and AdamW for the `rest`, which is groups of parameters, as one optimizer.

    Muon has Nesterov momentum, and its step is scaled to the size of AdamW's (Liu et al. 2025, arXiv
    2502.16982): one learning rate serves both.
    """

    def __init__(self, matrices: list[Tensor], rest: list[dict], learning_rate: float, weight_decay: float):
        self.adamw = adamw(rest, learning_rate)
        muon = {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay}
        super().__init__([muon, *self.adamw.param_groups], {})
        self.share()

    def share(self) -> None:
        """Let AdamW work on the groups and the state that this one shows, saves and loads."""
        self.adamw.param_groups, self.adamw.state = self.param_groups[1:], self.state

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        group, by_shape = self.param_groups[0], {}
        for p in group["params"]:
            if p.grad is not None:
                by_shape.setdefault(p.shape, []).append(p)
        for alike in by_shape.values():
            self.step_together(alike, group["lr"], group["weight_decay"])
        self.adamw.step()

    def step_together(self, matrices: list[Tensor], learning_rate: float, weight_decay: float) -> None:
        """Muon's step for matrices of one shape."""
        for p in matrices:
            if p not in self.state:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta, gradients = [self.state[p]["momentum_buffer"] for p in matrices], [p.grad for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        moves = orthogonalise(torch.stack(ahead)).to(matrices[0].dtype)
        torch._foreach_mul_(matrices, 1 - learning_rate * weight_decay)
        scale = 0.2 * max(matrices[0].shape) ** 0.5
        torch._foreach_add_(matrices, moves.unbind(), alpha=-learning_rate * scale)

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.share()
