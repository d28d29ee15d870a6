"""Drawing of the synthetic clips: textured shapes that move over a moving textured background.

Shapes: T frames of H x W pixels, N objects. Colours are RGB in 0..1, positions (x, y) in pixels, angles in
radians. An object is star-shaped: an outline gives its radius at A angles, in units of its size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import map_coordinates

from vos_lightning.data.synthetic_motion import drift, paths

SHAPES = ("ellipse", "polygon", "star", "blob", "cross", "heart")
TEXTURES = ("stripes", "checks", "dots", "noise")

ANGLES = 720
TILE = 96  # Side of an object's texture in pixels.
REACH = 2.2  # Distance from an object's centre to the side of its texture, in units of its size.
MARGIN = 0.2  # Background beyond each side of the frame, as a share of the height.


@dataclass(frozen=True)
class Thing:
    """One object: T outlines, a texture and T poses.

    outlines (T, A) radii; texture (TILE, TILE, 3); centres (T, 2); angles (T,); sizes (T, 2) half-axes in
    pixels.
    """

    outlines: np.ndarray
    texture: np.ndarray
    centres: np.ndarray
    angles: np.ndarray
    sizes: np.ndarray


def render_clip(
    rng: np.random.Generator,
    categories: list[tuple[str, str]],
    twins: bool,
    times: np.ndarray,
    span: float,
    height: int,
    width: int,
    late: bool = False,
) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Draws one clip.

    Args:
        rng: source of all that is random.
        categories: (shape, texture) of objects 1..N, N <= 4, from SHAPES and TEXTURES.
        twins: objects 1 and 2 share their colours.
        times: when each frame is drawn, (T,) ascending from 0.
        span: time that the objects' paths take, at least the last of `times`.
        height: H in pixels; objects are about 0.33 to 0.46 H across.
        width: W in pixels.
        late: the last object is outside at first and enters later.

    Yields:
        T times an RGB image of H x W and its mask (H, W) uint8 of visible objects.
    """
    palette = _palette(rng, 6)
    radii = height * rng.uniform(0.165, 0.23, len(categories))
    centres = paths(rng, radii, times, span, height, width, late)
    # Of each object, one of the palette's first two colours and one of the other four.
    picks = [(rng.integers(0, 2), rng.integers(2, 6)) for _ in categories]
    if twins:
        picks[1] = picks[0]
    things = []
    for (shape, texture), pick, radius, path in zip(categories, picks, radii, centres, strict=True):
        colours = np.clip(palette[list(pick)] + rng.normal(0, 0.03, (2, 3)), 0, 1)
        things.append(_thing(rng, shape, texture, colours, radius, path, times))
    background = _background(rng, palette, height, width)
    windows = _camera(rng, times, height, width)
    light = _light(rng, times, height, width)
    blur = _blur(rng, times, height)
    noise = rng.uniform(0.005, 0.02)
    order = rng.permutation(len(things))
    for t in range(len(times)):
        view = background.transform(
            (width, height), Image.Transform.AFFINE, windows[t], Image.Resampling.BILINEAR
        )
        image = np.asarray(view, dtype=np.float32) / 255
        mask = np.zeros((height, width), dtype=np.uint8)
        for i in order:
            _paint(image, mask, things[i], t, i + 1)
        image = image * light[t][..., None] + noise * rng.standard_normal(image.shape, dtype=np.float32)
        frame = Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))
        yield frame.filter(ImageFilter.GaussianBlur(tuple(blur[t].tolist()))), mask


def _paint(image: np.ndarray, mask: np.ndarray, thing: Thing, t: int, ident: int) -> None:
    """Draws a thing at time t over image (H, W, 3) and mask (H, W), in place."""
    outline, (cx, cy), (sx, sy) = thing.outlines[t], thing.centres[t], thing.sizes[t]
    extent = outline.max() * max(sx, sy) + 2
    top, bottom = max(0, int(cy - extent)), min(mask.shape[0], int(cy + extent) + 1)
    left, right = max(0, int(cx - extent)), min(mask.shape[1], int(cx + extent) + 1)
    if top >= bottom or left >= right:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    x, y = x - cx, y - cy
    cos, sin = np.cos(thing.angles[t]), np.sin(thing.angles[t])
    u, v = (x * cos + y * sin) / sx, (y * cos - x * sin) / sy
    distance = np.hypot(u, v)
    edge = outline[(np.arctan2(v, u) * (ANGLES / (2 * np.pi))).astype(int) % ANGLES]
    alpha = np.clip((edge - distance) * min(sx, sy) + 0.5, 0, 1)
    inside = alpha > 0
    where = [(w[inside] / REACH + 1) * (TILE / 2) - 0.5 for w in (v, u)]
    colour = np.stack([map_coordinates(c, where, order=1, mode="nearest") for c in thing.texture.T], axis=-1)
    # Darker at the rim, like a solid body.
    colour *= 1 - 0.6 * np.minimum((distance / edge)[inside], 1)[:, None] ** 6
    pixels = image[top:bottom, left:right]
    pixels[inside] += alpha[inside][:, None] * (colour - pixels[inside])
    mask[top:bottom, left:right][alpha > 0.5] = ident


def _thing(
    rng: np.random.Generator,
    shape: str,
    texture: str,
    colours: np.ndarray,
    radius: float,
    path: np.ndarray,
    times: np.ndarray,
) -> Thing:
    tile = _texture(rng, texture, TILE, TILE, colours, TILE * rng.uniform(0.16, 0.26))
    theta = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    wobble = sum(
        drift(rng, times, 0.07)[:, None] * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    )
    angles = rng.uniform(0, 2 * np.pi) + drift(rng, times, rng.uniform(0.1, 0.7))
    squeeze, growth = np.exp(drift(rng, times, 0.15)), np.exp(drift(rng, times, 0.15))
    growth /= growth[0]
    sizes = radius * np.stack([growth * squeeze, growth / squeeze], axis=1)
    return Thing(_outline(rng, shape) * (1 + wobble), tile, path, angles, sizes)


def _outline(rng: np.random.Generator, shape: str) -> np.ndarray:
    """Radius at A angles of a shape with the area of the unit circle, (A,)."""
    theta = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    x, y = np.cos(theta), np.sin(theta)
    if shape == "ellipse":
        aspect = rng.uniform(1.2, 1.6)
        radius = 1 / np.hypot(x / aspect, y * aspect)
    elif shape == "polygon":
        sides = rng.integers(3, 6)
        radius = 1 / np.cos(theta % (2 * np.pi / sides) - np.pi / sides)
    elif shape == "star":
        phase = np.abs(theta * rng.integers(5, 8) / (2 * np.pi) % 1 * 2 - 1)
        radius = 0.6 + rng.uniform(0.3, 0.55) * phase
    elif shape == "blob":
        waves = [rng.uniform(0.08, 0.22) * np.cos(k * theta + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5)]
        radius = 1 + np.sum(waves, axis=0)
    elif shape == "cross":
        arm = rng.uniform(0.35, 0.45)
        near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        radius = np.minimum(1 / far, arm / np.maximum(near, 1e-6))
    else:  # a heart
        radius = 1.15 - y + 0.5 * y * np.sqrt(np.abs(x)) / (y + 1.4)
    return radius / np.sqrt(np.mean(radius**2))


def _texture(
    rng: np.random.Generator, kind: str, height: int, width: int, colours: np.ndarray, period: float
) -> np.ndarray:
    """A texture (height, width, 3) that runs through colours (K, 3); period in pixels."""
    noise = _noise(rng, height, width, period)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width] * (2 * np.pi / period)
    u, v = x * np.cos(turn) + y * np.sin(turn) + 2 * noise, y * np.cos(turn) - x * np.sin(turn) + 2 * noise
    if kind == "stripes":
        level = np.tanh(3 * np.sin(u))
    elif kind == "checks":
        level = np.tanh(5 * np.sin(u / 1.5) * np.sin(v / 1.5))
    elif kind == "dots":
        level = np.tanh(3 * (np.cos(u) + np.cos(v) - 0.4))
    else:  # noise
        level = np.clip(3 * (2 * noise - 1), -1, 1)
    steps = np.linspace(-1, 1, len(colours))
    mixed = np.stack([np.interp(level, steps, channel) for channel in colours.T], axis=-1)
    return np.clip(mixed + 0.2 * (_noise(rng, height, width, period / 2)[..., None] - 0.5), 0, 1)


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Three octaves of smooth noise, (height, width) in 0..1; the coarsest varies over `cell` pixels."""
    total = np.zeros((height, width))
    for octave in range(3):
        size = cell / 2**octave
        grid = rng.standard_normal((int(height / size) + 3, int(width / size) + 3)).astype(np.float32)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / 2**octave
    return (total - total.min()) / (total.max() - total.min())


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours (count, 3), each the one of 12 candidates farthest from those before it, then shuffled."""
    chosen = [rng.uniform(0.1, 0.9, 3)]
    while len(chosen) < count:
        candidates = rng.uniform(0.05, 0.95, (12, 3))
        gaps = np.linalg.norm(candidates[:, None] - np.array(chosen), axis=-1).min(axis=1)
        chosen.append(candidates[gaps.argmax()])
    colours = rng.permutation(np.array(chosen))
    grey = colours.mean(axis=1, keepdims=True)
    return grey + 0.75 * (colours - grey)


def _background(rng: np.random.Generator, colours: np.ndarray, height: int, width: int) -> Image.Image:
    """An out-of-focus scene, MARGIN larger than the frame on each side, with still clutter of objects."""
    margin = int(MARGIN * height)
    high, wide = height + 2 * margin, width + 2 * margin
    scene = _texture(rng, str(rng.choice(TEXTURES)), high, wide, colours[:3], height * rng.uniform(0.2, 0.6))
    scene = scene.astype(np.float32)
    for _ in range(rng.integers(2, 6)):
        pair = colours[rng.permutation(len(colours))[:2]]
        place = rng.uniform([[0, 0]], [[wide, high]])
        size = height * rng.uniform(0.06, 0.15)
        clutter = _thing(
            rng, str(rng.choice(SHAPES)), str(rng.choice(TEXTURES)), pair, size, place, np.zeros(1)
        )
        _paint(scene, np.zeros((high, wide), np.uint8), clutter, 0, 1)
    image = Image.fromarray((scene.clip(0, 1) * 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(height * rng.uniform(0.008, 0.025)))


def _camera(rng: np.random.Generator, times: np.ndarray, height: int, width: int) -> np.ndarray:
    """Affine maps (T, 6) from frame to scene, as Image.transform takes them: pan, zoom and rotation."""
    margin = int(MARGIN * height)
    pan = [margin * drift(rng, times, 0.6) for _ in range(2)]
    zoom, turn = 1 - np.abs(drift(rng, times, 0.12)), drift(rng, times, 0.06)
    a, b = zoom * np.cos(turn), zoom * np.sin(turn)
    cx, cy = width / 2, height / 2
    dx, dy = cx + margin + pan[0] - a * cx + b * cy, cy + margin + pan[1] - b * cx - a * cy
    return np.stack([a, -b, dx, b, a, dy], axis=1)


def _light(rng: np.random.Generator, times: np.ndarray, height: int, width: int) -> np.ndarray:
    """Gain (T, H, W): overall light and its slope across the frame drift with time."""
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    gain, slopes = drift(rng, times, 0.3), [drift(rng, times, 0.4)[:, None, None] for _ in range(2)]
    return (1 + gain[:, None, None] + slopes[0] * x + slopes[1] * y).astype(np.float32)


def _blur(rng: np.random.Generator, times: np.ndarray, height: int) -> np.ndarray:
    """Blur (T, 2) along x and y in pixels: none in half the clips, else shake or loss of focus."""
    kinds = [(0, 0), (0, 0), (1, 1), (1.3, 0.3), (0.3, 1.3)]
    return 0.008 * height * np.abs(drift(rng, times, 1))[:, None] * kinds[rng.integers(len(kinds))]
