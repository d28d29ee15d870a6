"""Motion of the synthetic clips: where objects go, and curves that drift.

Shapes: T times, ascending from 0; N objects. Positions are (x, y) in pixels.
"""

import numpy as np
from scipy.interpolate import CubicSpline


def paths(
    rng: np.random.Generator,
    radii: np.ndarray,
    times: np.ndarray,
    span: float,
    height: int,
    width: int,
    late: bool,
) -> list[np.ndarray]:
    """Centres (T, 2) of N objects: apart and inside at first; then they wander or leave, or two swap.

    late: the last one is outside at first. Otherwise as `synthetic_render.render_clip`.
    """
    starts = _starts(rng, radii, height, width)
    knots = [_wander(rng, start, span, height, width) for start in starts]
    if len(starts) > 1 and np.linalg.norm(starts[0] - starts[1]) < width / 2:
        meet = starts[:2].mean(axis=0) + rng.normal(0, 0.1 * height, 2)
        knots[0], knots[1] = (np.stack([starts[i], meet, starts[1 - i]]) for i in range(2))
    if rng.random() < 0.3:
        knots[-1] = _leave(rng, starts[-1], radii[-1], height, width)
    if late:
        knots[-1] = _enter(rng, radii[-1], height, width)
    return [CubicSpline(np.linspace(0, span, len(k)), k)(times) for k in knots]


def _starts(rng: np.random.Generator, radii: np.ndarray, height: int, width: int) -> np.ndarray:
    """First centres (N, 2), of 500 draws the one with the widest gap between objects."""
    inset = radii[:, None] * 1.1
    draws = rng.uniform(inset, [width, height] - inset, (500, len(radii), 2))
    gaps = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1) - radii[:, None] - radii
    gaps[:, np.eye(len(radii), dtype=bool)] = np.inf
    return draws[gaps.min(axis=(1, 2)).argmax()]


def _wander(rng: np.random.Generator, start: np.ndarray, end: float, height: int, width: int) -> np.ndarray:
    """Knots (K, 2) about 5 units of time apart, at 0.5 to 2.5 % of the width a unit, mostly straight on."""
    count = max(3, round((end + 1) / 5) + 1)
    stride = rng.uniform(0.005, 0.025) * width * end / (count - 1)
    knots, heading = [start], rng.uniform(0, 2 * np.pi)
    while len(knots) < count:
        turns = heading + rng.normal(0, 0.5, 24) * np.linspace(1, 8, 24)
        steps = knots[-1] + stride * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        outside = np.abs(steps / [width, height] - 0.5).max(axis=1)
        best = int(np.argmax(outside < 0.45)) if (outside < 0.45).any() else int(outside.argmin())
        heading = turns[best]
        knots.append(steps[best])
    return np.stack(knots)


def _leave(rng: np.random.Generator, start: np.ndarray, radius: float, height: int, width: int) -> np.ndarray:
    """Knots (3, 2): out over the nearest side and back in elsewhere."""
    size = np.array([width, height])
    ends = np.stack([start, size - start])
    side, axis = np.unravel_index(ends.argmin(), ends.shape)
    out, back = start.copy(), rng.uniform(0.2, 0.8, 2) * size
    out[axis] = -1.6 * radius if side == 0 else size[axis] + 1.6 * radius
    out[1 - axis] = (start[1 - axis] + back[1 - axis]) / 2
    return np.stack([start, out, back])


def _enter(rng: np.random.Generator, radius: float, height: int, width: int) -> np.ndarray:
    """Knots (3, 2): straight in from beyond one side."""
    size = np.array([width, height])
    start, end = rng.uniform(0.25, 0.75, (2, 2)) * size
    axis, far = rng.integers(2), rng.random() < 0.5
    start[axis], end[axis] = radius * rng.uniform([-2.2, 3], [-1.5, 4])
    if far:
        start[axis], end[axis] = size[axis] - start[axis], size[axis] - end[axis]
    return np.stack([start, (start + end) / 2, end])


def drift(rng: np.random.Generator, times: np.ndarray, amount: float) -> np.ndarray:
    """A smooth random curve (T,) within +-amount: two slow waves with periods of 12 to 50 units of time."""
    periods, phases = rng.uniform(12, 50, 2), rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(times[:, None] * (2 * np.pi / periods) + phases)
    return amount * waves.mean(axis=1)
