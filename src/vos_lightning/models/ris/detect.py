"""RIS on an image: the objects that it finds, until it is no longer sure of one."""

from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.instances import Detections
from vos_lightning.devices import upload
from vos_lightning.models.ris.fields import InstancePrediction
from vos_lightning.models.ris.network import RIS


class Detector:
    """Finds the objects of one image.

    Args:
        network: in eval mode, best as `for_inference` gives it.
        prediction: see `InstancePrediction`.
        size: (H, W) at which the network runs.
        device: where the network is.
    """

    def __init__(
        self,
        network: RIS,
        prediction: InstancePrediction,
        size: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.prediction, self.size, self.device = network, prediction, size, device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Detections:
        """The objects of an image (h, w, 3) uint8 in the order in which they are found, of no category.

        A step whose mask has no pixel, or none that is left to it, finds nothing.
        """
        frames = upload(to_network([image], self.size), self.device)
        claimed = np.zeros(image.shape[:2], bool)
        found: list[tuple[np.ndarray, float]] = []
        for soft, logits in islice(self.network.objects(frames), self.prediction.steps):
            score = float(torch.sigmoid(logits))
            if score < self.prediction.stop:
                break
            mask = self._pixels(soft, image.shape[:2])
            if self.prediction.overlaps == "first":
                mask &= ~claimed
                claimed |= mask
            if mask.any():
                found.append((mask, score))
        masks = np.array([mask for mask, _ in found], bool).reshape(-1, *image.shape[:2])
        scores = np.array([score for _, score in found], np.float64)
        return Detections(masks, scores, np.zeros(len(found), np.int64))

    def _pixels(self, soft: Tensor, size: tuple[int, ...]) -> np.ndarray:
        """A soft mask (1, H, W) as pixels (h, w) bool of the image."""
        resized = F.interpolate(soft[None], size=size, mode="bilinear", align_corners=False)[0, 0]
        return (resized > self.prediction.threshold).cpu().numpy()
