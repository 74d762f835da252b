"""The report of invented runs: everything is there, nothing is fetched, nothing is executed."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from routers.calibration.calibrate import APPEAL_ALWAYS
from search.report import plot_style, plots
from search.report.record import Figure, FinalistRow, PairSizes
from search.report.report import MOST_CANDIDATES, render, write_report
from tests.search.records import invented

PLOTS = {"reward", "front", "volume", "layers", "deferral", "confusion"}


class Page(HTMLParser):
    """Collects what the tests ask about, and that tags close in the order they were opened."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[tuple[str, list[str]]] = []  # the tr's class, its cells
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((dict(attrs).get("class") or "", []))
        elif tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(invented()))


def test_every_tag_is_closed_in_order(page: Page) -> None:
    assert page.open == []
    assert len(page.named("h1")) == 1


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "action", "srcset", "data"}:
                assert (value or "").startswith("#")
    text = render(invented())
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_each_plot_is_there_once_with_words_for_those_who_do_not_see_it(page: Page) -> None:
    drawn = [svg for svg in page.named("svg") if svg.get("class") == "plot"]
    assert sorted(str(svg["data-plot"]) for svg in drawn) == sorted(PLOTS)
    for svg in drawn:
        assert svg["role"] == "img"
        assert len(svg["aria-label"] or "") > 30


def test_ids_are_unique_and_those_referred_to_exist() -> None:
    text = render(invented())
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:url\(|href="|aria-labelledby=")#?([\w.-]+)', text))
    assert referred <= set(ids)


def figures_of(page: Page) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for kind, cells in page.rows if kind == "figure"}


def test_figures_stand_in_one_table_by_part(page: Page) -> None:
    head = next(cells for _, cells in page.rows if cells and cells[0] == "figure")
    # the cell of a heading ends with the part's rows
    assert [cell.split()[0] for cell in head] == ["figure", "test", "calibration", "validation"]
    rows = figures_of(page)
    assert rows["pair's accuracy"] == ["99.46 %", "", ""]
    assert rows["appeals"] == ["5.00 %", "4.92 %", ""]
    assert rows["teacher's accuracy"] == ["99.63 %", "", "99.40 %"]
    assert rows["time of one input"] == ["0.41 ms", "", ""]
    assert "10,000 rows" in page.text


def test_the_routers_are_sorted_as_they_were_ranked(page: Page) -> None:
    rows = {cells[0].split("\n")[0]: cells[1:] for _, cells in page.rows if len(cells) > 1}
    # standing, area, KB, accuracy at 10 % appeals, appeals for 90 % AccI, AUROC, µs
    margin = rows["margin ★"]
    assert margin[0] == "ships"
    assert margin[1].startswith("99.57 %")
    assert margin[2:] == ["1", "99.61 %", "4.70 %", "0.961", "4.5"]
    assert rows["svm"][0] == "tied"
    assert rows["svm"][2:5] == ["61", "–", "–"]
    assert rows["et"] == ["not fitted: 12 errors"]
    assert rows["oracle"][:2] == ["bound", "99.74 %"]
    assert rows["random"][:2] == ["bound", "99.43 %"]
    assert "Rows to fit on: the student errs on\n71 of 9,091." in page.text
    for word in ("smallest", "Tied"):
        assert word in page.text


def test_the_verdict_and_the_warnings_come_before_every_figure() -> None:
    record = replace(
        invented(),
        verdict="A student of 900 KB is right on 99.21%.",
        alarms=(("student-at-chance", "no better than chance"), ("max-kb-not-kept", "too large")),
    )
    text = render(record)
    places = [
        text.index(words)
        for words in (record.verdict, "student-at-chance", "max-kb-not-kept", "JPEG copy", 'tiles"')
    ]
    assert places == sorted(places)


def test_the_tab_names_teacher_and_data() -> None:
    record = replace(invented(), data="mnist")
    assert f"<title>resnet18_mnist on mnist: a student of {record.student.kb:,.0f} KB<" in render(
        record
    )


def test_plain_finalists_stand_beside_the_winner() -> None:
    record = replace(
        invented(),
        finalists=(
            FinalistRow(3, "search", 900.0, 10_000_000, 0.97, 0.9932),
            FinalistRow(7, "uniform", 880.0, 12_000_000, None, 0.9911),
            FinalistRow(0, "", 700.0, 9_000_000, 0.9, 0.98),
        ),
    )
    rows = [cells for _, cells in Page(render(record)).rows if "candidate" in "".join(cells[:1])]
    first, second, third = rows[-3:]
    assert first[0].startswith("candidate 3 ★")
    assert first[1:] == ["900", "10,000,000", "97.00 %", "99.32 %"]
    assert second[3:] == ["–", "99.11 %"]
    assert third[0] == "beside the candidates"
    assert "every layer as wide as the others" in render(record)


def test_the_pairs_size_stands_beside_the_students() -> None:
    record = replace(invented(), pair=PairSizes(913.4, 921.0, 920.1))
    assert "with its router\n913 KB, on disk 921 KB" in render(record)


def test_a_figure_of_no_known_part_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="'train'; expected one of distillation, router"):
        Figure("accuracy", 0.9, "train", 10)
    with pytest.raises(ValueError, match="holdout"):
        replace(invented(), pair_part="holdout")


def test_the_winner_must_be_among_the_candidates() -> None:
    with pytest.raises(ValueError, match="number 99"):
        replace(invented(), winner=99)


HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>&amp;"


def test_text_of_the_user_is_escaped_everywhere() -> None:
    record = invented()
    row = replace(record.candidates[0], status="failed", accuracy=None, reason=HOSTILE)
    hostile = replace(
        record,
        title=HOSTILE,
        command=HOSTILE,
        created=HOSTILE,
        warnings=(f"class {HOSTILE} is empty",),
        teacher=replace(record.teacher, name=HOSTILE),
        candidates=(row, *record.candidates[1:]),
        layers=(replace(record.layers[0], name=HOSTILE, kind=HOSTILE, before=HOSTILE),),
        routers=(replace(record.routers[0], name=HOSTILE, note=HOSTILE),),
        router_name=HOSTILE,
        curves={HOSTILE: record.curves["margin"], "oracle": record.curves["oracle"]},
        figures=(Figure(HOSTILE, 0.5, "test", 10, HOSTILE),),
    )
    text = render(hostile)
    page = Page(text)
    assert page.open == []
    assert not page.named("script")
    assert not page.named("img")
    assert "alert('x')" in page.text  # shown, not run
    assert page.text.count(HOSTILE) >= 8


def test_the_file_is_written_at_once_and_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "report.html", tmp_path / "second.html"
    write_report(first, invented())
    write_report(second, invented())
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["report.html"]
    assert b"\n<title>resnet18_mnist" in first.read_bytes()


def test_one_candidate_no_fitted_router_and_a_teacher_no_better() -> None:
    record = invented(candidates=1, layers=1)
    sparse = replace(
        record,
        routers=record.routers[:1],
        curves={"margin": ([0.0, 1.0], [0.97, 0.97])},
        operating_point=(0.0, 0.97),
        confusion=((0, 0), (0, 0)),
        thresholds={"c0": None, "a0": None, "max_kb": None},
        parts={"test": 10},
        figures=(Figure("won back of the gap (AccI)", None, "test", 10),),
        threshold=APPEAL_ALWAYS,
        warnings=(),
    )
    page = Page(render(sparse))
    assert len([svg for svg in page.named("svg") if svg.get("class") == "plot"]) == len(PLOTS)
    assert figures_of(page)["won back of the gap (AccI)"] == ["–", ""]
    assert "lets every input appeal" in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


def test_a_run_whose_candidates_all_failed_still_has_its_plots() -> None:
    record = invented()
    failed = tuple(
        replace(row, accuracy=None, reward=0.0, status="failed") for row in record.candidates
    )
    page = Page(render(replace(record, candidates=failed)))
    assert page.text.count("failed") >= len(failed)


def test_candidates_that_were_stopped_early_are_counted_and_come_after_the_whole() -> None:
    record = invented()  # 24 candidates, of which numbers 5 and 16 failed
    first = record.candidates[0]
    # its first epoch promised more than anything came to
    stopped = replace(first, status="stopped", reason="after epoch 1", accuracy=0.999, reward=99.0)
    changed = replace(record, candidates=(stopped, *record.candidates[1:]))
    page = Page(render(changed))
    assert ": 21 trained to the end, 1 stopped early, 2 failed" in page.text
    kinds = [cells[-1].split(":")[0] for _, cells in page.rows if len(cells) == 10]
    listed = [kind for kind in kinds if kind in ("done", "stopped", "failed")]
    assert listed == ["done"] * 21 + ["stopped"] + ["failed"] * 2
    assert "stopped: after epoch 1" in page.text
    # it is no part of the front, nor of the best so far
    svg = plots.reward_plot(changed.candidates, changed.winner)
    assert ">stopped early</text>" in svg
    front = plots.front_plot(
        changed.candidates, changed.winner, max_kb=None, least_accuracy=None, teacher_accuracy=None
    )
    assert "Accuracy against KB of 21 candidates" in front


def test_finalists_show_what_their_full_training_did() -> None:
    record = invented()
    rows = [
        replace(row, trained=0.98765) if row.number == record.winner else row
        for row in record.candidates
    ]
    page = Page(render(replace(record, candidates=tuple(rows))))
    listed = [cells for _, cells in page.rows if len(cells) == 10 and cells[0][0].isdigit()]
    assert [cells[3] for cells in listed if "★" in cells[0]] == ["98.77 %"]
    assert {cells[3] for cells in listed if "★" not in cells[0]} == {""}


def test_a_long_search_lists_the_best_and_always_the_winner() -> None:
    record = invented(candidates=MOST_CANDIDATES + 50)
    worst = min((r for r in record.candidates if r.accuracy), key=lambda row: row.reward).number
    page = Page(render(replace(record, winner=worst)))
    listed = [cells for kind, cells in page.rows if "★" in "".join(cells[:1])]
    assert [cells[0] for cells in listed if cells[0] != "margin ★"] == [f"{worst} ★"]
    assert f"{MOST_CANDIDATES} best of\n{MOST_CANDIDATES + 50} candidates" in page.text


def height_and_width(svg: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    return float(found[2]), float(found[1])


def test_a_hundred_layers_each_keep_a_line_of_their_own() -> None:
    svg = plots.layers_plot(invented(layers=100).layers)
    # 7-point names need lines of at least 9 points to stand clear of each other.
    assert height_and_width(svg)[0] >= 100 * 9
    places = sorted(
        {float(y) for y in re.findall(r'text-anchor: end[^>]*y="([\d.]+)"[^>]*>layer', svg)}
    )
    assert len(places) == 100
    assert min(np.diff(places)) >= 8


def test_the_best_so_far_never_falls_and_the_winner_is_marked() -> None:
    svg = plots.reward_plot(invented().candidates, invented().winner)
    for words in ("best so far", "winner", "failed", "reward (no unit)"):
        assert f">{words}</text>" in svg


def test_no_axis_of_accuracy_goes_beyond_all_right() -> None:
    # One candidate with every row right: the axis has room around it, but no tick above 100 %.
    row = replace(invented().candidates[0], accuracy=1.0)
    svg = plots.front_plot([row], 0, max_kb=None, least_accuracy=None, teacher_accuracy=None)
    ticks = [float(tick) for tick in re.findall(r">([\d.]+) %</text>", svg)]
    assert len(ticks) >= 2
    assert max(ticks) == 100


def test_limits_and_teacher_are_drawn_only_where_they_are_known() -> None:
    record = invented()

    def labels(max_kb: float | None, accuracy: float | None) -> set[str]:
        svg = plots.front_plot(
            record.candidates,
            record.winner,
            max_kb=max_kb,
            least_accuracy=accuracy,
            teacher_accuracy=accuracy,
        )
        words = {"most KB allowed", "least accuracy", "teacher"}
        return {word for word in words if f">{word}</text>" in svg}

    assert labels(2200, 0.99) == {"most KB allowed", "least accuracy", "teacher"}
    assert labels(None, None) == set()


def test_what_a_search_began_with_is_drawn_beside_its_own_candidates() -> None:
    record = invented()
    assert "earlier runs" not in render(record)
    drawn = render(replace(record, earlier=((300.0, 0.97), (800.0, 0.9999))))
    assert ">earlier runs</text>" in drawn
    assert "2 candidates of earlier\nruns" in drawn

    # they are no part of the front
    def front(text: str) -> list[str]:
        return re.findall(r"Accuracy against KB of [^.]*", text)

    assert front(drawn) == front(render(record)) != []


def test_the_confusion_shows_counts_and_shares() -> None:
    svg = plots.confusion_plot(((9_471, 450), (29, 50)), "test")
    for words in ("9,471", "appealed in vain · 4.5 %", "missed · 0.3 %", "caught · 0.5 %"):
        assert f">{words}</text>" in svg


def test_colours_follow_the_theme_of_the_page() -> None:
    text = render(invented())
    for name, colour in plot_style.COLOURS.items():
        assert f"--{name}:" in text
        # Nowhere is a colour fixed: every use is a variable with that fallback.
        bare = re.findall(rf"(?<!var\(--{name}, ){colour}(?!;)", text.split("</style>", 1)[1])
        assert bare == []
