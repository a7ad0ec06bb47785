"""The teaching notebook's helpers: partitions equal the documented axes; grey levels do what their names say."""

import json
import re
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from s6lib import tutorial
from s6lib.models.norms import EPS, NORMALISERS, NormContext, make_norm

ROOT = Path(__file__).parent.parent
SHAPE = (4, 6, 2, 3)
CONTEXT = NormContext(6, 2, 3, groups=3, ghost_splits=2)
# An index per image, channel and pixel: elements with equal indices on all three share a statistic.
IMAGE, CHANNEL, PIXEL = (torch.arange(k) for k in (4, 6, 6))
ZERO = {"image": IMAGE * 0, "channel": CHANNEL * 0, "pixel": PIXEL * 0}
DOCUMENTED = {
    "batch": {"channel": CHANNEL},
    "ghost": {"image": IMAGE % 2, "channel": CHANNEL},  # split k holds images k, k + 2
    "layer": {"image": IMAGE},
    "layer_full": {"image": IMAGE},
    "group": {"image": IMAGE, "channel": CHANNEL // 2},
    "instance": {"image": IMAGE, "channel": CHANNEL},
    "rms": {"image": IMAGE},
    "filter_response": {"image": IMAGE, "channel": CHANNEL},
    "batch_renorm": {"channel": CHANNEL},
    "group_ws": {"image": IMAGE, "channel": CHANNEL // 2},
}
ALONE = {"image": IMAGE, "channel": CHANNEL, "pixel": PIXEL}


def documented(keys):
    """bool [E, E]: which pairs of elements have the same key on every axis."""
    image, channel, pixel = (ZERO | keys).values()
    key = (image[:, None, None] * 100 + channel[:, None]) * 100 + pixel
    return key.flatten()[:, None] == key.flatten()


def make(name):
    torch.manual_seed(0)
    return make_norm(name, CONTEXT)


@pytest.mark.parametrize("name", [name for name, build in NORMALISERS.items() if build])
def test_every_normaliser_can_be_asked(name):
    # A new one too: whatever it shares a statistic over, elements share it with themselves and both ways.
    shared = tutorial.sharing(make(name), SHAPE)
    assert shared.diagonal().all()
    assert torch.equal(shared, shared.T)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_sharing_is_over_the_documented_axes(name):
    assert torch.equal(tutorial.sharing(make(name), SHAPE), documented(DOCUMENTED[name]))


@pytest.mark.parametrize("name", ["batch", "ghost", "batch_renorm"])
def test_evaluation_shares_nothing_where_running_statistics_exist(name):
    assert torch.equal(tutorial.sharing(make(name).eval(), SHAPE), documented(ALONE))


@pytest.mark.parametrize("name", ["layer", "layer_full", "group", "instance", "rms", "filter_response", "group_ws"])
def test_evaluation_changes_nothing_where_they_do_not(name):
    assert torch.equal(tutorial.sharing(make(name).eval(), SHAPE), documented(DOCUMENTED[name]))


def test_sharing_leaves_the_normaliser_as_it_was():
    norm = make("batch")
    tutorial.sharing(norm, SHAPE)
    assert norm.weight.dtype == torch.float32
    assert torch.equal(norm.running_mean, torch.zeros(6))


def test_replicas_never_share():
    norm = make_norm("layer", NormContext(3, replicas=2))
    parts = tutorial.partition(norm, SHAPE)
    assert len(parts[0, :3].unique()) == len(parts[0, 3:].unique()) == 1
    assert parts[0, 0, 0, 0] != parts[0, 3, 0, 0]


def test_partition_numbers_parts_in_order_of_appearance():
    parts = tutorial.partition(make("instance"), SHAPE)
    assert torch.equal(parts[:, :, 0, 0].flatten(), torch.arange(24))


def test_statistics_of_a_partition_are_those_over_its_axes():
    x = torch.randn(SHAPE, dtype=torch.float64)
    mean, var = tutorial.statistics(x, tutorial.partition(make("batch"), SHAPE))
    torch.testing.assert_close(mean, x.mean((0, 2, 3), keepdim=True).expand(SHAPE))
    torch.testing.assert_close(var, x.var((0, 2, 3), correction=0, keepdim=True).expand(SHAPE))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("batch", (6, 4, 1, 6)), ("ghost", (12, 2, 1, 6)), ("layer", (4, 1, 6, 6)), ("group", (12, 1, 2, 6))],
)
def test_reach_counts_statistics_images_channels_and_pixels(name, expected):
    assert tuple(tutorial.reach(make(name), SHAPE).values()) == expected


def test_cube_colours_the_chosen_element_and_those_that_share_with_it():
    ax = tutorial.cube(Figure().subplots(), make_norm("batch", NormContext(4, 2, 2)))
    colours = ax.collections[0].get_facecolors()
    blue = torch.tensor(colours[:, 0]).isclose(torch.tensor(0x56 / 255, dtype=torch.float64)).sum()
    assert len(colours) == 3 * 16
    # the last channel: 4 front and 4 top faces, all 16 on the right; three of these are the chosen element's
    assert blue == 4 + 4 + 16 - 3


def test_tiles_write_every_value_and_each_tiles_statistics():
    x = torch.arange(24.0).view(2, 3, 2, 2)
    parts = tutorial.partition(make_norm("layer", NormContext(3, 2, 2)), (2, 3, 2, 2))
    written = [text.get_text() for text in tutorial.tiles(Figure().subplots(), x, parts).texts]
    assert {str(value) for value in range(24)} <= set(written)
    assert written.count("5.500 | 11.917") == 3  # 0..11: mean 5.5, variance (12^2 - 1) / 12


def test_squeeze_maps_the_full_range_onto_the_given_one():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert tutorial.squeeze(image, 20, 100).tolist() == [20, 36, 100]


def test_stretch_spans_the_full_range_and_keeps_the_order():
    image = torch.tensor([[20, 36], [60, 100]], dtype=torch.uint8)
    assert tutorial.stretch(image).tolist() == [[0, 51], [128, 255]]


def test_stretch_leaves_a_full_range_alone():
    image = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(tutorial.stretch(image), image)


def test_equalise_flattens_the_cumulative_histogram():
    # grey levels piled up at the dark end, each held by 16 pixels: afterwards the levels are evenly spaced
    image = ((torch.arange(1024) // 16) ** 2 // 64).to(torch.uint8)
    levels = tutorial.equalise(image).unique()
    cumulative = tutorial.histogram(tutorial.equalise(image)).cumsum(0)[levels.long()] / 1024
    start = cumulative[0]
    torch.testing.assert_close(levels / 255, (cumulative - start) / (1 - start), atol=0.501 / 255, rtol=0)


def test_equalise_makes_each_level_as_common_as_its_neighbours_when_all_pixels_differ():
    image = (torch.arange(128) + 7).to(torch.uint8)
    assert tutorial.histogram(tutorial.equalise(image)).max() == 1
    assert (tutorial.equalise(image).int().diff() - 2).abs().max() <= 1


@pytest.mark.parametrize("change", [tutorial.stretch, tutorial.equalise])
def test_a_flat_image_stays_flat(change):
    image = torch.full((4, 4), 77, dtype=torch.uint8)
    assert len(change(image).unique()) == 1


def test_histogram_counts_every_pixel_once():
    image = torch.tensor([[0, 0], [3, 255]], dtype=torch.uint8)
    counts = tutorial.histogram(image)
    assert (counts[0], counts[3], counts[255], counts.sum()) == (2, 1, 1, 4)


def test_show_grey_fills_three_panels():
    axes = Figure().subplots(3)
    tutorial.show_grey(axes, torch.arange(256, dtype=torch.uint8).view(16, 16), "ramp")
    assert axes[0].get_title() == "ramp"
    assert axes[2].lines[0].get_ydata()[-1] == pytest.approx(100)


def test_edge_maps_see_their_own_direction_only():
    upright = torch.zeros(1, 28, 28)
    upright[..., 14:] = 1  # one vertical edge
    maps = tutorial.edge_maps(upright)
    assert maps.shape == (1, 3, 26, 26)
    assert maps[0, 0].max() == 4
    assert maps[0, 1].abs().max() == 0


def test_random_batches_hold_different_images():
    batches = tutorial.random_batches(20, 8, 10)
    assert all(len(batch.unique()) == 8 for batch in batches)


def test_noise_of_the_mean_falls_with_the_root_of_the_batch_size():
    maps = torch.randn(2000, 2, 1, 1, generator=torch.Generator().manual_seed(1))
    ratio = tutorial.mean_noise(maps, 4, 2000) / tutorial.mean_noise(maps, 64, 2000)
    torch.testing.assert_close(ratio, torch.full((2,), 4.0), atol=0.3, rtol=0)


def test_running_is_what_batch_norm_keeps():
    norm, x = torch.nn.BatchNorm1d(1), torch.randn(5, 8, 1)
    for batch in x:
        norm(batch)
    torch.testing.assert_close(tutorial.running(x.mean((1, 2)), 0.0)[-1], norm.running_mean[0])
    torch.testing.assert_close(tutorial.running(x.var((1, 2)), 1.0)[-1], norm.running_var[0])


def test_companions_move_batch_norm_and_not_layer_norm():
    maps = torch.rand(40, 6, 2, 3, generator=torch.Generator().manual_seed(2))
    few, many = (tutorial.among(make("batch"), maps, size).std() for size in (2, 30))
    assert few > 2 * many > 0
    assert tutorial.among(make("layer"), maps, 30).std() < 1e-6


def test_show_running_draws_the_batches_and_one_line_per_start():
    values = torch.full((10,), 2.0)
    ax = tutorial.show_running(Figure().subplots(), values, "variance", [1, 0])
    assert [line.get_ydata()[-1] for line in ax.lines[:3]] == pytest.approx([2, 2 - 0.9**10, 2 - 2 * 0.9**10])


def test_show_draws_has_a_strip_per_batch_size():
    ax = tutorial.show_draws(Figure().subplots(), {2: torch.zeros(5), "8, layer norm": torch.ones(5)})
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "8, layer norm"]
    assert ax.lines[1].get_ydata().tolist() == [1] * 5


def test_show_noise_draws_percent_and_the_root_law():
    sizes, one = torch.tensor([4, 16]), torch.ones(1)
    ax = tutorial.show_noise(Figure().subplots(), sizes, torch.tensor([[0.5], [0.25]]), one, ["blur"])
    assert ax.lines[0].get_ydata().tolist() == ax.lines[1].get_ydata().tolist() == [50, 25]


# --- exercises -------------------------------------------------------------------------------------


def exercises():
    """Number -> the code of the exercise's cell and of its folded solution."""
    notebook = json.loads((ROOT / "notebooks" / "00_normalisation_by_hand.ipynb").read_text(encoding="utf-8"))
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    block = re.compile(r"<details>.*```python\n(.*?)```.*</details>", re.DOTALL)
    return {k: (cells[f"exercise-{k}"], block.search(cells[f"solution-{k}"])[1]) for k in (1, 2, 3)}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_solutions_pass_their_checks(number):
    # unanswered, the cell says so and stops nothing; a wrong answer is told from the solution
    cell, solution = exercises()[number]
    unanswered, check = cell.split("\n", 1)
    space = {"tutorial": tutorial, "torch": torch, "EPS": EPS, "x": torch.arange(24.0).double().view(2, 3, 2, 2) ** 1.5}
    space["ours"] = lambda name, **options: make_norm(name, NormContext(3, 2, 2, **options)).double()
    name = unanswered.split(" = ")[0]
    wrong = {1: {"layer"}, 2: lambda x: x, 3: 10}[number]
    for answer, word in ((unanswered, "not answered"), (solution, "right"), (None, "not right")):
        exec(answer or "", space)
        space.update({name: wrong} if answer is None else {})
        assert eval(check, space).startswith(word)
