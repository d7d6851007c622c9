"""One training step, in one process or in several that share a batch."""

import functools

import torch
from torch import Tensor, nn

from vitlab.norms import full_precision
from vitlab.runtime import Run
from vitlab.training.processes import Processes
from vitlab.training.recipe import Recipe, make_optimizer
from vitlab.training.tasks import Outcome, Task, classification
from vitlab.vit import ViT


class Stepper:
    """Takes training steps: forward, backward, clipping and a move of the weights, in the run's precision.

    In several processes all begin with the first one's weights, and gradients are averaged over them. Each
    draws random numbers of its own. `task` is what `by_recipe` made of the recipe for a data set; None is
    `classification` with the recipe's label smoothing. Raises ValueError for class weights without a task,
    and for patch sizes that the model cannot have.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, run: Run, task: Task | None = None):
        if task is None and recipe.class_weights:
            raise ValueError("class weights are of a data set; give the task that by_recipe makes for it")
        task = task or functools.partial(classification, label_smoothing=recipe.label_smoothing)
        self.recipe, self.run = recipe, run
        self.processes = Processes(run)
        if self.processes.index:
            torch.manual_seed(torch.initial_seed() + self.processes.index)
        self.model = model.to(run.device).train()
        self.parameters = list(self.model.parameters())  # looked up once: it takes longer than to clip them
        self.optimizer = make_optimizer(self.model, recipe)
        self.learner = self.processes.share(Learner(self.model, task, recipe.patch_sizes))
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=run.precision == "fp16")

    def step(
        self, images: Tensor, labels: Tensor, learning_rate: float, patch_size: int | None = None
    ) -> Outcome:
        """One step on one batch, at one of the recipe's patch sizes; returns the task's outcome, detached."""
        if not self.model.training:  # after an evaluation
            self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with full_precision(self.run.device):  # whoever calls this may have an autocast of their own
            return self.move(images, labels, patch_size)

    def move(self, images: Tensor, labels: Tensor, patch_size: int | None = None) -> Outcome:
        """The step at the learning rate that is set."""
        with self.run.autocast():
            outcome = self.learner(images, labels, patch_size)
        if not torch.is_grad_enabled():
            raise ValueError("gradients are off here: leave torch.no_grad and its like before training")
        if not outcome.loss.requires_grad:
            raise ValueError("the task's loss depends on no weight that can be trained; was it detached?")
        loss = outcome.loss * self.processes.share_of(outcome.divided_by)
        self.scaler.scale(loss).backward()
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return outcome._replace(loss=outcome.loss.detach())

    def restore(self, model: dict[str, Tensor], state: dict[int, dict], scaler: dict) -> None:
        """Go on from the state dicts of model, optimizer (its state alone) and scaler.

        What the optimizer keeps of a parameter lies in memory as the parameter does, whatever the layout it
        was saved in: PyTorch's fused optimizers on a CPU go through both without a look at their strides.
        """
        self.model.load_state_dict(model)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, kept in self.optimizer.state.items():
            for name, tensor in kept.items():
                if tensor.shape == parameter.shape:
                    kept[name] = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        self.scaler.load_state_dict(scaler)


class Learner(nn.Module):
    """A model and its task as one module: gradients are shared, whatever the task does with the model.

    At each of `patch_sizes` the model is one of the same parameters and with the same names for its classes.
    Raises ValueError where it cannot be.
    """

    def __init__(self, model: nn.Module, task: Task, patch_sizes: tuple[int, ...] | None = None):
        super().__init__()
        self.model, self.task = model, task
        if patch_sizes and not isinstance(model, ViT):
            raise ValueError(
                f"patch_sizes are for a ViT, and this model is a {type(model).__name__}: leave them out, or "
                "give the ViT itself, as it was before torch.compile"
            )
        self.at = {None: model}
        for size in patch_sizes or ():
            self.at[size] = model if size == model.config.patch_size else model.at(patch_size=size)

    def forward(self, images: Tensor, labels: Tensor, patch_size: int | None = None) -> Outcome:
        model = self.at[patch_size]
        if model is not self.model:  # which may have learnt them after its copies were made
            model.class_names = self.model.class_names
        return self.task(model, images, labels)
