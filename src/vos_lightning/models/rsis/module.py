"""Training of RSIS on images.

Shapes: B batch, O objects, P steps, H W pixels of the network's input.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.instances import InstanceBatch
from vos_lightning.layers.losses import pairwise_soft_iou_cost, soft_iou_cost, weighted_mean
from vos_lightning.layers.matching import match_costs
from vos_lightning.models.rsis.course import Course
from vos_lightning.models.rsis.fields import RSISTraining
from vos_lightning.models.rsis.network import RSIS, Found
from vos_lightning.models.training import Optimisation, TrainingModule


class SetTraining(TrainingModule):
    """Trains RSIS; the objects of an image are matched with the steps that fit them best.

    Args:
        network: what is trained.
        training: see `RSISTraining`.
        optimisation: see `Optimisation`.
    """

    model: RSIS
    training_fields: RSISTraining

    def __init__(self, network: RSIS, training: RSISTraining, optimisation: Optimisation) -> None:
        super().__init__(network, training, optimisation)
        self.course = Course(training, network.steps, network.box_head is not None)
        self.weights = {
            "mask": 1.0,
            "box": training.box_weight,
            "class": training.class_weight,
            "stop": training.stop_weight,
        }

    def on_train_epoch_start(self) -> None:
        """Takes up the terms that the epoch begins with."""
        super().on_train_epoch_start()
        self.course.begin(self.current_epoch)
        self._freeze()

    def on_train_start(self) -> None:
        """Freezes the backbone also where a run goes on inside an epoch."""
        super().on_train_start()
        self._freeze()

    def _freeze(self) -> None:
        self.model.encoder.backbone.requires_grad_("backbone" in self.course.entered)

    def found(self, batch: InstanceBatch, steps: int) -> Found:
        """What the network gives for a batch, up to the step behind the last object of any image."""
        most = int(batch.weights.sum(1).max())
        return self.model(batch.frames, min(steps, most + 1))

    def loss(self, terms: dict[str, Tensor], names: Iterable[str]) -> Tensor:
        """The weighted sum of the masks' term and of those that are named."""
        return sum((self.weights[n] * terms[n] for n in names if n in terms), start=terms["mask"])

    def training_step(self, batch: InstanceBatch, _: int) -> Tensor:
        """One step; logs train/loss."""
        found = self.found(batch, self.course.steps)
        loss = self.loss(terms_of(found, batch, self.training_fields.stop_balance), self.course.entered)
        self.log_loss(loss)
        return loss

    def validation_step(self, batch: InstanceBatch, _: int) -> None:
        """Logs val/loss, in which all steps and terms count from the start, and each term of it.

        val/present is the loss as training has it at present, by which the course goes on.
        """
        balance, size = self.training_fields.stop_balance, len(batch.frames)
        found = self.found(batch, self.model.steps)
        terms = terms_of(found, batch, balance)
        self.log_mean("val/loss", self.loss(terms, self.course.ever), size)
        for name, value in terms.items():
            self.log_mean(f"val/{name}", value, size)
        if self.course.steps < found.stops.shape[1]:
            terms = terms_of(first_steps(found, self.course.steps), batch, balance)
        self.log_mean("val/present", self.loss(terms, self.course.entered), size)

    def on_train_epoch_end(self) -> None:
        """Goes on in the course, and ends training where nothing has helped for long."""
        super().on_train_epoch_end()
        loss = self.trainer.callback_metrics.get("val/present")
        if loss is not None and self.course.end(float(loss)):
            stage = self.stage_at(self.current_epoch)
            self.ends[stage:] = [self.current_epoch + 1] * len(self.ends[stage:])
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the course too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["course"] = self.course.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the course too."""
        super().on_load_checkpoint(checkpoint)
        self.course.load_state_dict(checkpoint["course"])


def first_steps(found: Found, steps: int) -> Found:
    """What the network would have given for fewer steps."""
    masks, classes, stops, boxes = found
    fewer = None if boxes is None else boxes[:, :steps]
    return Found(masks[:, :steps], classes[:, :steps], stops[:, :steps], fewer)


def terms_of(found: Found, batch: InstanceBatch, stop_balance: float) -> dict[str, Tensor]:
    """The terms of the loss: `mask`, `class`, `stop` and, with a box head, `box`.

    As many steps as an image has objects are matched with one object each, by the soft IoU of their masks.
    The stop term counts these steps and the one behind them. Categories are taken for one if the network
    has one.
    """
    steps = found.stops.shape[1]
    masks, truth = torch.sigmoid(found.masks.float()), batch.masks.float()
    there = batch.weights[:, :steps]
    matched = match_costs(pairwise_soft_iou_cost(masks, truth), batch.weights, valid_only=True)
    image = torch.arange(len(matched), device=matched.device)[:, None]
    terms = {"mask": weighted_mean(soft_iou_cost(masks, truth[image, matched]), there)}

    logits = found.classes.float().transpose(1, 2)
    categories = batch.categories[image, matched]
    if logits.shape[1] == 2:
        categories = categories.clamp(max=1)
    terms["class"] = weighted_mean(F.cross_entropy(logits, categories, reduction="none"), there)

    balance = (1 - stop_balance) * there + stop_balance * (1 - there)
    stops = F.binary_cross_entropy_with_logits(found.stops.float(), there, balance, reduction="none")
    asked = torch.cat([torch.ones_like(there[:, :1]), batch.weights], 1)[:, :steps]
    terms["stop"] = weighted_mean(stops, asked)

    if found.boxes is not None:
        distances = (torch.sigmoid(found.boxes.float()) - batch.boxes[image, matched]) ** 2
        terms["box"] = weighted_mean(distances.mean(2), there)
    return terms
