"""RSIS on an image of any size: the objects that it finds.

Shapes: P steps, N objects, H W pixels of the network's input, h w pixels of the image.
"""

import numpy as np
import torch
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.instances import Detections
from vos_lightning.devices import upload
from vos_lightning.layers.pyramid import resize
from vos_lightning.models.rsis.fields import RSISPrediction
from vos_lightning.models.rsis.network import RSIS


class SetDetection:
    """Finds the objects of images.

    Args:
        network: in eval mode, best as `for_inference` gives it.
        prediction: see `RSISPrediction`.
        size: (H, W) at which the network runs.
        device: where the network is.
    """

    def __init__(
        self, network: RSIS, prediction: RSISPrediction, size: tuple[int, int], device: torch.device | str
    ) -> None:
        self.network, self.prediction, self.size, self.device = network, prediction, size, device

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> Detections:
        """The objects of an image (h, w, 3) uint8 RGB, with masks (N, h, w) of its size.

        A score is the product of the stop score and the category's probability. A network that takes all
        categories for one gives none.
        """
        images = upload(to_network([frame], self.size), self.device)
        found = self.network(images, self.network.steps)
        stops = torch.sigmoid(found.stops[0].float())
        kept = self._kept(stops)
        soft = torch.sigmoid(found.masks[0, kept, None].float())
        masks = resize(soft, frame.shape[:2])[:, 0] > self.prediction.mask
        areas = masks.flatten(1).sum(1)
        large = (areas > 0) & (areas >= self.prediction.min_size * frame[..., 0].size)
        masks, kept = masks[large], kept[large]
        scores = stops[kept, None] * torch.softmax(found.classes[0, kept].float(), 1)[:, 1:]
        return self._as_detections(masks, scores)

    def _kept(self, stops: Tensor) -> Tensor:
        """Which steps have found an object, (N,) int64."""
        there = stops >= self.prediction.stop
        if self.prediction.ends_at_stop:
            there = there.int().cumprod(0) > 0
        return there.nonzero().flatten()

    def _as_detections(self, masks: Tensor, scores: Tensor) -> Detections:
        """Masks (N, h, w), each of the category whose score is the highest of (N, K)."""
        given = scores.cpu().numpy()
        categories = given.argmax(1) + 1 if given.shape[1] > 1 else np.zeros(len(given), np.int64)
        return Detections(masks.cpu().numpy(), given.max(1), categories)
