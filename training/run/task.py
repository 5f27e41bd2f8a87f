"""The LightningModule: next-token cross entropy, the optimiser and an optional running mean of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from training.corpus.shards import IGNORED
from training.run.muon import MuonAdamW
from training.run.recipe import OptimizerConfig
from training.run.trials import Trial, build, with_trial


class LanguageModelTask(L.LightningModule):
    """Trains a `ShortcutLM` on batches of `inputs` and `targets`, (B, T) each.

    Args:
        config: Shape and options of the model.
        optimizer: Optimiser and schedule.
        trial: What a trial beyond the paper changes about the model (training/run/trials.py).
    """

    progress: float
    """Share of the budget spent; the budget's callback sets it before every batch."""
    about: dict[str, Any]
    """Settings of the run and what it has spent, in plain values, for its checkpoints."""

    def __init__(
        self,
        config: ModelConfig = ModelConfig(),  # noqa: B008 (frozen)
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        trial: Trial | None = None,
    ) -> None:
        super().__init__()
        self.config = with_trial(config, trial)
        self.recipe = optimizer
        self.model = build(self.config)
        self.progress = 0.0
        self.seed = 0
        self.about: dict[str, Any] = {}
        self._mean: list[Tensor] = []
        if optimizer.ema:
            self._mean = [parameter.detach().clone() for parameter in self.model.parameters()]

    def start_from(self, model: ShortcutLM) -> None:
        """Take another model's weights, of the same shapes, for the model and its running mean."""
        self.model.load_state_dict(model.state_dict())
        self._mean = [parameter.detach().clone() for parameter in self.model.parameters()] if self._mean else []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean cross entropy of the batch, in nats per token."""
        return F.cross_entropy(self._logits(batch), batch["targets"].flatten(), ignore_index=IGNORED)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Adds the batch to the validation's mean loss and accuracy, weighted by its tokens."""
        logits, targets = self._logits(batch), batch["targets"].flatten()
        loss = F.cross_entropy(logits, targets, ignore_index=IGNORED)
        scored = targets != IGNORED
        count = int(scored.sum())
        if count:
            hits = (logits.argmax(-1) == targets)[scored].float().mean()
            self.log_dict({"val/loss": loss, "val/accuracy": hits}, on_epoch=True, batch_size=count, sync_dist=True)

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        return self.model(batch["inputs"]).flatten(0, 1).float()  # (B*T, V)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Sets what depends on the place in the run alone: the learning rate and the dropout's randomness.

        Seeding every batch by its number makes resuming exact whatever else has drawn random numbers since.
        """
        rate = self.recipe.rate(self.trainer.global_step, self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        number = self.trainer.fit_loop.total_batch_idx * self.trainer.world_size + self.trainer.global_rank
        torch.manual_seed((self.seed * 0x9E3779B97F4A7C15 + number) % 2**63)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """One step of the optimiser, then of the running mean of the weights."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self._mean:
            # A young mean forgets faster, or the random start would stay in it for 1 / (1 - decay) steps.
            step = self.trainer.global_step
            decay = min(self.recipe.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._mean, [p.detach() for p in self.model.parameters()], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[ShortcutLM]:
        """The model with the mean weights in place, where there is a mean, and in evaluation mode."""
        self._swap()
        training = self.model.training
        try:
            yield self.model.eval()
        finally:
            self.model.train(training)
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self._mean, self.model.parameters(), strict=bool(self._mean)):
            held = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(held)

    def on_fit_start(self) -> None:
        """Puts the mean where the model is."""
        self._mean = [mean.to(self.device) for mean in self._mean]

    def on_validation_start(self) -> None:
        """Validation scores the mean weights."""
        self._swap()

    def on_validation_end(self) -> None:
        """Training goes on with its own weights."""
        self._swap()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says what run this is, and adds the mean weights by name."""
        checkpoint.update(self.about)
        if self._mean:
            names = [name for name, _ in self.model.named_parameters()]
            checkpoint["mean_weights"] = {name: mean.cpu() for name, mean in zip(names, self._mean, strict=True)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the mean weights back."""
        if self._mean and "mean_weights" in checkpoint:
            stored = checkpoint["mean_weights"]
            self._mean = [stored[name].to(self.device) for name, _ in self.model.named_parameters()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Matrices decay (or take Muon); embeddings, norms and biases do neither."""
        recipe = self.recipe
        single, stacked, rest = [], [], []
        for name, parameter in self.model.named_parameters():
            if parameter.dim() < 2 or ".biases." in name or name.startswith(("embedding", "positions")):
                rest.append(parameter)
            elif name.endswith(("keys_values.weight", "gate_up.weight")):
                stacked.append(parameter)
            else:
                single.append(parameter)
        if recipe.name == "muon":
            groups: list[dict[str, Any]] = [
                {"params": single, "matrices": 1, "weight_decay": recipe.weight_decay},
                {"params": stacked, "matrices": 2, "weight_decay": recipe.weight_decay},
                {"params": rest},
            ]
            return MuonAdamW(groups, lr=recipe.lr, betas=recipe.betas, momentum=recipe.momentum)
        decayed = {"params": single + stacked, "weight_decay": recipe.weight_decay}
        maker = torch.optim.Adam if recipe.name == "adam" else torch.optim.AdamW
        return maker([decayed, {"params": rest, "weight_decay": 0.0}], lr=recipe.lr, betas=recipe.betas)
