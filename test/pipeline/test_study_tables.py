import numpy as np
import pytest
from scipy import stats

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.studies.bars import write_bars
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.class_table import class_table
from xkd_ros.pipeline.studies.paired import Spread, paired_difference, spread
from xkd_ros.pipeline.studies.progress import StudyProgress
from xkd_ros.pipeline.studies.queue import STUDIES, write_page
from xkd_ros.pipeline.studies.results import Results
from xkd_ros.pipeline.studies.scale import RIGS, SMALL
from xkd_ros.pipeline.studies.study import figure, notes_on


def finished(cell: Cell, miou: float, class_hash="c", inputs=None, **metrics) -> CellResult:
    scores = {heading: {"miou": miou, "struct4_miou": miou + 30} for heading in ("all points", "in view", "out of view")}
    return CellResult(
        cell=cell,
        key=cell.key,
        class_hash=class_hash,
        inputs=inputs or {"frames": "f", "teacher": "t"},
        metrics={"real": {**scores, "ece": 0.03}, **metrics},
        seconds=100.0,
    )


def cells(name):
    return STUDIES[name].cells(SMALL, ["sim2d"])


def rows(tables, title):
    return next(table.rows for table in tables if table.title.startswith(title))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_the_interval_is_that_of_a_paired_t_test(count):
    rng = np.random.default_rng(count)
    ours, theirs = rng.normal(50, 3, count), rng.normal(48, 3, count)
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    wanted = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((wanted.low, wanted.high))
    assert found.count == count


def test_classes_are_compared_over_the_same_seeds():
    def done(seed, variant, ious):
        cell = next(cell for cell in cells("ignet") if cell.seed == seed and cell.parameters["variant"] == variant)
        result = finished(cell, 40.0)
        result.metrics["real"]["all points"]["iou"] = ious
        return result

    results = [done(seed, "ignet", [50.0 + seed, None, *[30.0] * 10]) for seed in (0, 1)]
    results += [done(seed, "full", [48.0, 1.0, *[32.5] * 10]) for seed in (1, 2)]
    ((words, *values),) = class_table(results, [("one minus other", {"variant": "ignet"}, {"variant": "full"})]).rows
    assert words == "one minus other" and values == ["+3.0", "-", *["-2.5"] * 10]


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({0: 5.0, 1: 7.0, 3: 100.0}, {1: 4.0, 0: 1.0, 2: -100.0})
    assert (found.mean, found.count) == (3.5, 2)
    assert str(paired_difference({}, {1: 2.0})) == "-" and str(spread([4.0])) == "4.0"


@pytest.mark.parametrize(
    ("values", "bar", "verdict", "open_question"),
    [
        ([6.0, 6.1, 6.2, 6.1, 6.0], 5.0, "met", False),
        ([9.0, 1.0, 9.0, 1.0, 9.0], 5.0, "met", True),
        ([1.0, 1.1, 1.0, 1.1, 1.0], 5.0, "not met", False),
        ([6.0, 6.1, 6.2, 6.1], 5.0, "not enough cells", False),
        ([6.0, 6.1], None, "reported", False),
    ],
)
def test_a_bar_needs_five_seeds_and_the_mean(values, bar, verdict, open_question):
    found = spread(values)
    assert found.verdict(bar) == verdict
    assert bool(found.remark(bar)) == open_question


def test_results_come_back_and_other_definitions_are_refused(tmp_path):
    results, cell = Results(tmp_path), cells("scalr")[0]
    assert results.find(cell) is None
    path = results.save(finished(cell, 40.0))
    assert results.find(cell) == finished(cell, 40.0)
    other = cell.model_copy(update={"parameters": {**cell.parameters, "teacher": "dino"}})
    with pytest.raises(ConfigError, match="teacher 'sim2d' instead of 'dino'"):
        results.find(other)
    path.write_text(path.read_text().replace('"percent": 1', '"percent": 2'))
    with pytest.raises(ConfigError, match="percent 2 instead of 1"):
        results.find(cell)
    path.write_text('{"cell": 1}')
    with pytest.raises(ConfigError, match="is no result"):
        results.find(cell)


def test_results_of_different_class_maps_are_never_compared(tmp_path):
    results, queue = Results(tmp_path), cells("scalr")[:3]
    for cell, class_hash in zip(queue, "aab"):
        results.save(finished(cell, 40.0, class_hash))
    assert len(results.of(queue[:2])) == 2
    with pytest.raises(ConfigError, match=r"001pct-45x-distilled-seed0.*010pct-45x-distilled-seed0.*must not be compared"):
        results.of(queue)


def test_one_page_holds_the_bars_of_all_studies(tmp_path):
    few, ignet, walks = (Results(tmp_path / f"{name}-small") for name in ("scalr", "ignet", "temporal"))
    for cell in cells("scalr")[:2]:
        few.save(finished(cell, 40.0 + 6 * (cell.parameters["start"] == "distilled")))
    for cell in cells("ignet")[:2]:
        ignet.save(finished(cell, 50.0 - (cell.parameters["variant"] == "ignet")))
    side = {"structure_error": 6.0, "struct4_miou": 90.0, "person": 70.0, "ece": 2.0, "miou": 60.0, "iou": {}}
    walks.save(finished(cells("temporal")[0], 0.0, alone=side, fused={**side, "structure_error": 4.5}))
    page = write_bars(STUDIES, ["sim2d"], tmp_path)
    assert "| [scalr-small](scalr-small.md) | 1 % of the labels | +6.0 | 1 | >= 5 | not enough cells | 2 of 50 |" in page
    assert "| ignet, % of full supervision, minus 98 | +0.0 | 1 | >= 0 | not enough cells | 2 of 45 |" in page
    assert "| [temporal-small](temporal-small.md) | structure error removed, % | +25.0 | 1 | >= 15 | not enough cells | 1 of 5 |" in page
    page = write_bars(STUDIES, ["dino"], tmp_path)
    assert "scalr-small is left out" in page and "ignet-small is left out" in page


def test_scalr_reads_differences_from_results():
    gain = {(1, 45): 8.0, (10, 45): 1.0, (100, None): 0.0, (1, None): 0.5, (10, None): -0.5}
    done = [
        finished(cell, 40 + cell.seed + gain[p["percent"], p.get("passes")] * (p["start"] == "distilled"))
        for cell in cells("scalr")
        for p in [cell.parameters]
    ]
    tables = STUDIES["scalr"].tables(done)
    bars = rows(tables, "Distilled minus")
    assert [row[1] for row in bars] == ["+8.0 ± 0.0", "+0.5 ± 0.0", "+1.0 ± 0.0", "-0.5 ± 0.0", "+0.0 ± 0.0"]
    # What trains too long is shown, and not judged.
    assert [row[4] for row in bars] == ["met", "reported", "not met", "reported", "met"]
    assert rows(tables, "Fine-tuning")[0][1:] == ["50.0 ± 2.0", "42.0 ± 2.0", "50.7", "54.1", "-"]


def test_rigs_lays_out_the_published_table_and_averages_complete_seeds():
    done = [
        finished(cell, {"all": 41.0, cell.parameters["tested_on"]: 40.0}.get(cell.parameters["distilled_on"], 30.0))
        for cell in cells("rigs")
        if not (cell.seed == 4 and cell.parameters["tested_on"] == "vlp32")
    ]
    tables = STUDIES["rigs"].tables(done)
    ours = rows(tables, "Linear probing")
    assert [row[0] for row in ours] == [*RIGS, "all"]
    assert ours[0][1:] == ["40.0 ± 0.0", "30.0 ± 0.0", "30.0 ± 0.0", "30.0 ± 0.0"]
    bars = {row[0]: row for row in rows(tables, "All rigs minus")}
    assert bars["mean of all four"][1:3] == ["+1.0 ± 0.0", "4"] and bars["mean of all four"][4] == "not enough cells"
    assert bars["tested on ouster16"][1:3] == ["+1.0 ± 0.0", "5"]
    assert bars["published: mean of three"][1] == "-0.5"


def test_pseudo_vs_real_sets_the_student_beside_its_teacher():
    pair = {"teacher": {"miou": 50.0, "struct4_miou": 80.0}, "student": {"miou": 52.0, "struct4_miou": 85.0}}
    done = [
        finished(cell, 45.0, teacher=pair, pseudo={"all points": {"miou": 60.0}}, trusted={"teacher": pair})
        for cell in cells("pseudo_vs_real")
    ]
    tables = STUDIES["pseudo_vs_real"].tables(done)
    scores = {row[0]: row[1:] for row in rows(tables, "mIoU")}
    assert scores["student, in view, projected labels"] == ["60.0 ± 0.0", "-", "56.5"]
    assert scores["student, all points, true labels"] == ["45.0 ± 0.0", "75.0 ± 0.0", "35.8"]
    bars = rows(tables, "Student against")
    assert [row[1:] for row in bars[:2]] == [[f"{gain} ± 0.0", "5", ">= 0", "met"] for gain in ("+5.0", "+2.0")]
    assert bars[4][1:] == ["+2.0 ± 0.0", "5", ">= 0", "met"], "3 % calibration error leave 2 %"
    surer = [result.model_copy(update={"metrics": {**result.metrics, "temperature": 0.9}}) for result in done]
    for result in surer:
        result.metrics["real"] = {**result.metrics["real"], "ece_unscaled": 0.01}
    shipped = rows(STUDIES["pseudo_vs_real"].tables(surer), "Student against")
    assert shipped[4][1] == "+4.0 ± 0.0", "no model is shipped with a temperature below 1"
    assert all(row[0].startswith("student trained for twice the steps") for row in bars[5:9]) and len(bars) == 15
    assert all(row[0].startswith("student trained twice") for row in bars[10:14])
    once = [result for result in done if result.cell.parameters.keys() == {"teacher"}]
    missing = rows(STUDIES["pseudo_vs_real"].tables(once), "Student against")
    assert [row[1] for row in missing[:5]] == [row[1] for row in bars[:5]] and {row[4] for row in missing[5:7]} == {"not enough cells"}


def test_xmodel_compares_what_robots_run_and_reports_what_pictures_add():
    gain = {"xmodel": 3.0, "xmodel once": 2.0, "xmodel once without infonce": 1.5, "xmodel once on labelled frames alone": 0.0}
    gain |= {"lidar alone twice": 1.25, "lidar alone longer": 0.75}
    done = []
    for cell in cells("xmodel"):
        miou = 40 + cell.seed + gain.get(cell.parameters["arm"], 0.0)
        fused = {"fused": {"real": {"in view": {"miou": miou + 10}}}} if cell.parameters["arm"].startswith("xmodel") else {}
        done.append(finished(cell, miou, **fused))
    tables = STUDIES["xmodel"].tables(done)
    bars = {row[0]: row[1:] for row in rows(tables, "Differences")}
    assert bars["distilled: xmodel minus lidar alone"] == ["+3.0 ± 0.0", "5", ">= 2", "met"]
    assert bars["distilled: what frames without labels add, trained once"] == ["+2.0 ± 0.0", "5", "-", "reported"]
    assert bars["distilled: what InfoNCE adds, trained once"] == ["+0.5 ± 0.0", "5", "-", "reported"]
    assert bars["distilled: what the second training adds"][0] == "+1.0 ± 0.0"
    assert bars["distilled: what as many more steps add to lidar alone"][0] == "+0.8 ± 0.0"
    assert bars["distilled: xmodel minus lidar alone, both trained twice"][0] == "+1.8 ± 0.0"
    assert "scratch: what the second training adds" not in bars
    assert bars["scratch: what pictures add at run time, in view"][0] == "+10.0 ± 0.0"
    scores = {row[0]: row[1:] for row in rows(tables, "mIoU")}
    assert scores["distilled, lidar alone"] == [*["42.0 ± 2.0"] * 3, "-", "-"] and scores["scratch, xmodel"][3] == "55.0 ± 2.0"


def test_ignet_is_compared_after_its_first_training_and_after_both():
    miou = {"full": 50.0, "scribbles": 45.0, "longer": 46.0, "no-images": 44.0, "no-contrast": 46.5, "no-fovmix": 47.5, "ignet": 49.5}
    miou |= {"published": 46.25, "full-longer": 55.0}
    done = []
    for cell in cells("ignet"):
        variant = cell.parameters["variant"]
        once = {"once": {"real": {place: {"miou": 47.0} for place in ("all points", "in view", "out of view")}}}
        done.append(finished(cell, miou[variant], **(once if variant == "ignet" else {})))
    tables = STUDIES["ignet"].tables(done)
    bars = {row[0]: row[1:] for row in rows(tables, "Against the bar")}
    assert bars["ignet, % of full supervision, minus 98"] == ["+1.0 ± 0.0", "5", ">= 0", "met"]
    assert bars["ignet minus: ignet, trained once"][0] == "+2.5 ± 0.0"
    as_long = bars["the same, of full supervision for as many steps as both trainings, minus 98"]
    assert as_long == ["-8.0 ± 0.0", "5", "-", "reported"]
    assert bars["ignet minus: ignet, the second training as published: from the start, on labels of each frame alone"][0] == "+3.2 ± 0.0"
    assert bars["ignet, trained once minus: ignet without FOVMix, trained once"][0] == "-0.5 ± 0.0"
    scores = {row[0]: row[1:] for row in rows(tables, "mIoU")}
    assert scores["ignet, trained once"] == [*["47.0 ± 0.0"] * 3, "94.0 ± 0.0"]


def test_teachers_and_depth_report_without_a_bar():
    real = {"real": {"all points": {"miou": 40.0}}}
    queue = cells("teachers")
    better = {"real": {"all points": {"miou": 44.0}}}
    done = [finished(c, 0.0, probe=better if c.parameters["teacher"] == "sim2d" else real, finetune=real) for c in queue]
    bars = rows(STUDIES["teachers"].tables(done), "Differences")
    assert [row[0] for row in bars] == [f"{stage}: random-image-network minus sim2d" for stage in ("probe", "finetune")]
    assert bars[0][1] == "-4.0 ± 0.0" and bars[0][4] == "reported"
    done = [finished(cell, cell.parameters["depth"], hz=5.0, memory_gb=None) for cell in cells("depth")]
    depth = rows(STUDIES["depth"].tables(done), "mIoU")
    assert depth[1] == ["24", "24.0 ± 0.0", "5.0", "-", "50.9", "15.41", "50.1"]


def test_temporal_pairs_what_was_labelled_alone_and_fused():
    def side(error, person, **more):
        return {"miou": 60.0, "struct4_miou": 90.0, "structure_error": error, "person": person, "ece": 2.0, "iou": {"wall": 80.0}, **more}

    done = [
        finished(cell, 0.0, alone=side(6.0 + cell.seed, 70.0), fused=side(0.75 * (6.0 + cell.seed), 69.0, struct4_miou=92.0))
        for cell in cells("temporal")
    ]
    grouped = [building for cell in cells("temporal") for building in cell.parameters["buildings"]]
    assert sorted(grouped) == list(SMALL.val_buildings), "each building is in one group"
    tables = STUDIES["temporal"].tables(done)
    bars = rows(tables, "Bars")
    assert bars[0][1:] == ["+25.0 ± 0.0", "5", ">= 15", "met"]
    assert bars[1][1:] == ["+20.0 ± 0.0", "5", "-", "reported"]
    assert bars[2][1:] == ["-1.0 ± 0.0", "5", ">= -0.5", "not met"]
    assert bars[3][1:] == ["+3.0 ± 0.0", "5", ">= 0", "met"]
    assert rows(tables, "Labels")[2] == ["structure error", "8.0 ± 2.0", "6.0 ± 1.5", "-2.0 ± 0.5"]
    # A group without people says nothing about them.
    done[0].metrics["alone"]["person"] = done[0].metrics["fused"]["person"] = None
    assert rows(STUDIES["temporal"].tables(done), "Bars")[2][2] == "4"


@pytest.mark.parametrize("name", STUDIES)
def test_every_page_can_be_written_before_the_first_cell_is_done(name):
    page = write_page(STUDIES[name], cells(name), [], f"{name}-small", f"xkd study {name} --small")
    assert f"xkd study {name} --small" in page and f"0 of {len(cells(name))} are done" in page
    assert ("buildings 0-59 to learn from, 60-74 to evaluate on" in page) == (name != "temporal") and "60-74" in page


def test_notes_name_what_makes_results_less_comparable():
    queue = cells("scalr")[:2]
    done = [finished(cell, 40.0, inputs={"frames": frames, "teacher": "t"}) for cell, frames in zip(queue, "ab")]
    assert len(notes_on(done)) == 1 and "bytes" in notes_on(done)[0]
    assert not notes_on(done[:1])
    elsewhere = [finished(cell, 40.0, inputs={"frames": cell.name}) for cell in cells("temporal")]
    assert not notes_on(elsewhere), "frames of other buildings differ by intention"


def test_figures_that_were_not_measured_are_none():
    assert figure({"a": {"b": 1}}, ("a", "b")) == 1.0
    assert figure({"a": {"b": None}}, ("a", "b")) is figure({}, ("a", "b")) is None


def test_the_rest_is_estimated_from_finished_cells():
    progress = StudyProgress(10, [60.0, 120.0])
    assert progress._rest() == "the rest takes about 00:12:00"
    progress.end(180.0)
    assert progress._rest() == "the rest takes about 00:14:00"
    assert StudyProgress(3)._rest() == ""
    assert StudyProgress(1000, [360.0])._rest() == "the rest takes about 100 h"


def test_a_spread_without_values_says_so():
    assert str(Spread(float("nan"), float("nan"), 0)) == "-"
