"""YouTube-VOS scoring, on masks made here and on figures of the benchmark's tools."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.apps.score import main
from vos_lightning.data.images import write_mask
from vos_lightning.data.youtube_meta import MetaObject, read_meta
from vos_lightning.errors import InputError
from vos_lightning.scoring.measures import boundary_f
from vos_lightning.scoring.youtube_vos import (
    PROTOCOLS,
    ObjectScore,
    VideoScore,
    score_video,
    summarise,
)

FIGURES = Path(__file__).parent / "fixtures/youtube_vos.json"
SIZE = (24, 32)


def boxes(*corners, size=SIZE):
    """A mask with, for each (id, y, x), a box of 8 x 8 pixels."""
    mask = np.zeros(size, np.uint8)
    for i, y, x in corners:
        mask[y : y + 8, x : x + 8] = i
    return mask


def video(seed, ids, starts, length):
    """True masks of boxes that wander, each from its start on, and predictions of boxes beside them."""
    rng = np.random.default_rng(seed)
    path = rng.integers(0, (16, 24), (length, len(ids), 2))
    truth, predicted = [], []
    for t in range(length):
        here = [(i, *path[t, k]) for k, i in enumerate(ids) if t >= starts[i]]
        truth.append(boxes(*here))
        predicted.append(boxes(*((i, max(0, y - rng.integers(4)), x) for i, y, x in here)))
    return truth, predicted


# --- the protocols ---------------------------------------------------------------------------------------

VIDEOS = {  # name -> id -> first frame, category; frames; there are gaps in ids and objects that come late
    "a": ({1: (0, "cat"), 3: (4, "dog")}, 9),
    "b": ({2: (0, "dog")}, 6),
    "c": ({1: (2, "cat"), 5: (7, "emu")}, 8),  # nothing before frame 2, one object in the last frame only
}


def slow_scores(protocol):
    """Every (object, frame) in one list; J by counting pixels. Mean J and F of cats, and of all others."""
    means = {True: [], False: []}
    for seed, (objects, length) in enumerate(VIDEOS.values()):
        starts = {i: start for i, (start, _) in objects.items()}
        truth, predicted = video(seed, list(objects), starts, length)
        for i, (start, category) in objects.items():
            values = []
            for t in range(length):
                if t < start or (t == start and protocol != "all"):
                    continue
                if t == length - 1 and protocol == "without-first-and-last":
                    continue
                a, b = ({*map(tuple, np.argwhere(masks[t] == i).tolist())} for masks in (truth, predicted))
                j = len(a & b) / len(a | b) if a | b else 1.0
                values.append((j, boundary_f(truth[t] == i, predicted[t] == i)))
            if values:
                means[category == "cat"].append(np.mean(values, axis=0))
    return [x for seen in (True, False) for x in np.mean(means[seen], axis=0).tolist()]


def scored(protocol, seen=("cat",)):
    results = []
    for seed, (name, (objects, length)) in enumerate(VIDEOS.items()):
        starts = {i: start for i, (start, _) in objects.items()}
        categories = {i: category for i, (_, category) in objects.items()}
        masks = map(iter, video(seed, list(objects), starts, length))
        results.append(score_video(*masks, starts, categories, protocol, name))
    return summarise(results, seen, protocol).to_dict()


@pytest.mark.parametrize(("protocol", "left_out"), [(p, 0 if p == "all" else 1) for p in PROTOCOLS])
def test_protocols_agree_with_the_definition(protocol, left_out):
    scores, expected = scored(protocol), slow_scores(protocol)
    assert [scores[k] for k in ("J_seen", "F_seen", "J_unseen", "F_unseen")] == pytest.approx(expected)
    assert scores["G"] == scores["JF"] == pytest.approx(np.mean(expected))
    assert scores["left_out"] == left_out
    assert len(scores["per_object"]) == 5 - left_out
    assert scores["per_object"]["a_3"]["category"] == "dog"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_figures_of_the_benchmark_on_real_videos(protocol):
    """J and F of each frame from an object's first one on, and what the benchmark's tools make of them."""
    content = json.loads(FIGURES.read_text())
    skip_first, skip_last, _ = PROTOCOLS[protocol]
    videos = []
    for o in content["objects"]:
        j, f = (tuple(o[key][skip_first : len(o[key]) - skip_last]) for key in "jf")
        score = ObjectScore(o["video"], o["id"], o["category"], (0.0,) * len(j), j, f)
        videos.append(VideoScore(o["video"], (score,), ()))
    scores = summarise(videos, {"seencat"}, protocol).to_dict()
    expected = content["expected"][protocol]
    assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-12)


def test_a_group_without_objects_is_left_out_of_the_mean():
    scores = scored("all", seen=("cat", "dog", "emu"))
    assert scores["J_unseen"] is scores["FD_unseen"] is None
    assert scores["position"]["J_unseen"] == [None] * 10
    assert scores["J"] == scores["J_seen"] and scores["G"] == (scores["J_seen"] + scores["F_seen"]) / 2
    assert "seen categories: 3, unseen: none, G is the mean of J_seen and F_seen" in scores["protocol"]


def test_position_and_instances_by_hand():
    good, bad = boxes((1, 0, 0)), boxes((1, 12, 20))
    # Six frames stand at 0, 0.2, ..., 1: an object of J 1, 1, 1, 0, 0, 0 and one of J 1, 0 from 0.8 on.
    first = score_video([good] * 6, [good] * 3 + [bad] * 3, {1: 0}, {1: "cat"}, "all", "first")
    late = score_video([good] * 6, [good] * 5 + [bad], {1: 4}, {1: "cat"}, "all", "late")
    # Six objects in one video, three of them found.
    corners = [(i, 8 * (i % 2), 10 * (i // 2 - 1)) for i in range(2, 8)]
    many = score_video(
        [boxes(*corners)] * 2,
        [boxes(*corners), boxes(*corners[:3])],
        dict.fromkeys(range(2, 8), 0),
        dict.fromkeys(range(2, 8), "emu"),
        "without-first",
        "many",
    )
    scores = summarise([first, late, many], {"cat"}, "all").to_dict()
    position = scores["position"]
    assert position["limits"] == pytest.approx(np.linspace(0, 1, 11))
    assert position["J_seen"] == [1, None, 1, None, 1, None, 0, None, 0.5, 0]
    assert position["J_unseen"] == [None] * 9 + [0.5]
    inner = score_video([good] * 6, [good] * 6, {1: 0}, {1: "cat"}, "without-first-and-last")
    assert inner.objects[0].positions == (0.2, 0.4, 0.6, 0.8)
    assert scores["instances"] == {
        "1": {"J": 0.5, "F": 0.5, "objects": 2},
        "5+": {"J": 0.5, "F": 0.5, "objects": 6},
    }


def test_an_object_may_be_predicted_before_it_starts():
    truth = [boxes((1, 0, 0))] * 2 + [boxes((1, 0, 0), (4, 12, 20))] * 3
    predicted = [boxes((1, 0, 0), (4, 12, 20))] * 5
    starts, categories = {1: 0, 4: 2}, {1: "cat", 4: "cat"}
    assert [o.j.mean for o in score_video(truth, predicted, starts, categories, "all").objects] == [1, 1]


def test_bad_masks_are_named():
    truth, arguments = [boxes((2, 0, 0))] * 4, ({2: 1}, {2: "cat"}, "without-first-and-last", "swan")
    unscored = [None, boxes((9, 0, 0)), boxes((2, 0, 0)), None]
    assert len(score_video(truth, unscored, *arguments).objects) == 1
    for wrong, message in (
        (None, "swan, frame 2: no prediction"),
        (boxes((3, 0, 0)), r"swan, frame 2: id 3 is not one of the video's objects \(2\)"),
        (boxes(size=(5, 6)), "swan, frame 2: the mask must be 32x24 not 6x5"),
    ):
        with pytest.raises(InputError, match=message):
            score_video(truth, [*truth[:2], wrong, truth[3]], *arguments)
    with pytest.raises(InputError, match="Protocol best is unknown"):
        score_video(truth, truth, {2: 0}, {2: "cat"}, "best")
    with pytest.raises(InputError, match="all leaves no object a frame"):
        summarise([], {"cat"}, "all")


# --- meta.json -------------------------------------------------------------------------------------------


def test_meta():
    objects = {
        "11": {"category": "emu", "frames": ["00005"]},
        "2": {"category": "cat", "frames": ["00005", "00000"]},
    }
    meta = read_meta(json.dumps({"videos": {"v": {"objects": objects}}}).encode(), "meta.json")
    assert list(meta["v"].items()) == [
        (2, MetaObject("cat", ("00000", "00005"))),
        (11, MetaObject("emu", ("00005",))),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "m.json: not readable as JSON"),
        ("[]", 'm.json: no "videos"'),
        ('{"videos": {"v": {}}}', 'm.json: video v: no "objects"'),
        ('{"videos": {"v": {"objects": {"0": {}}}}}', "video v: object id 0 is not a number from 1 to 254"),
        ('{"videos": {"v": {"objects": {"1": {"frames": ["0"]}}}}}', 'video v, object 1: no "category"'),
        ('{"videos": {"v": {"objects": {"1": {"category": "c"}}}}}', 'video v, object 1: no "frames"'),
    ],
)
def test_faults_of_meta_are_named(content, message):
    with pytest.raises(InputError) as error:
        read_meta(content.encode(), "m.json")
    assert message in str(error.value)


# --- vos-score -------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """VIDEOS as folders truth/ and predictions/ and meta.json, whose lists have a gap."""
    meta = {}
    for seed, (name, (objects, length)) in enumerate(VIDEOS.items()):
        starts = {i: start for i, (start, _) in objects.items()}
        names = [f"{5 * t:05d}" for t in range(length)]
        masks = video(seed, list(objects), starts, length)
        for root, content in zip(("truth", "predictions"), masks, strict=True):
            (tmp_path / root / name).mkdir(parents=True)
            for frame, mask in zip(names, content, strict=True):
                write_mask(tmp_path / root / name / f"{frame}.png", mask)
        meta[name] = {
            "objects": {
                str(i): {"category": category, "frames": [names[start], *names[start + 2 :]]}
                for i, (start, category) in objects.items()
            }
        }
    (tmp_path / "meta.json").write_text(json.dumps({"videos": meta}))
    train = {"v": {"objects": {"1": {"category": "cat", "frames": ["00000"]}}}}
    (tmp_path / "train.json").write_text(json.dumps({"videos": train}))
    return tmp_path


def run(tree, *options):
    folders = [tree / "truth", tree / "predictions", "--meta", tree / "meta.json"]
    return main([str(o) for o in (*folders, *options)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_folders_score_as_masks_do(tree, protocol, capsys):
    (tree / "predictions/c/00000.png").unlink()  # before the first object
    options = ("--frames", protocol, "--seen-category", "cat", "--jobs", 2, "--json", tree / "s.json")
    assert run(tree, *options) == 0
    scores = json.loads((tree / "s.json").read_text())
    assert scores == scored(protocol)
    assert capsys.readouterr().out.startswith(scores["protocol"] + "\n")


def test_report_of_seen_and_unseen_categories(tree, capsys):
    options = ("--seen", tree / "train.json", "--csv", tree / "s.csv", "--plot", tree / "s.png")
    assert run(tree, *options) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert "without-first" in " ".join(lines[0])
    assert [line[:4] for line in lines[2:4]] == [["a", "1", "cat", "seen"], ["c", "1", "cat", "seen"]]
    expected = scored("without-first")
    assert lines[-1][:2] == ["G", f"{expected['G']:.4f}"]
    assert len((tree / "s.csv").read_text().splitlines()) == 1 + 4
    assert Image.open(tree / "s.png").format == "PNG"


def test_split_list_and_default_categories(tree, capsys):
    (tree / "one.txt").write_text("b\n")
    assert run(tree, "--split-list", tree / "one.txt") == 0
    assert "seen categories: 1, unseen: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda t: (t / "truth/a/00010.png").unlink(),
            "",
            "truth/a/00010.png: no such file; meta.json lists",
        ),
        (lambda t: (t / "predictions/b/00025.png").unlink(), "", "b/00025.png: no such file; the without-f"),
        (
            lambda t: write_mask(t / "predictions/b/00020.png", boxes((7, 0, 0))),
            "",
            "predictions/b/00020.png: id 7 is not one of the video's objects (2)",
        ),
        (None, "--seen-category cow", "--seen-category cow: no object of"),
        (None, "--seen {t}/no.json", "no.json: no such file"),
        (lambda t: (t / "one.txt").write_text("x"), "--split-list {t}/one.txt", "has no video x"),
        (None, "--protocol unsupervised", "--protocol: is for DAVIS; use --frames with --meta."),
        (None, "--plot {t}/x/s.png", "x/s.png: cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(tree, capsys, change, options, message):
    if change:
        change(tree)
    assert run(tree, *options.format(t=tree).split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vos-score: ") and err.count("\n") == 1
    assert message in err


def test_options_of_youtube_vos_need_meta(tree, capsys):
    assert main([str(tree / "truth"), str(tree / "predictions"), "--seen-category", "cat"]) == 2
    assert "--seen-category: is for YouTube-VOS; add --meta." in capsys.readouterr().err
