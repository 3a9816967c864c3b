"""Charts as SVG: whole, and true to their figures."""

from xml.etree import ElementTree

from stsb_batch.report.charts import Point, bars_chart, markdown_image, nights_chart

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own, made a moment ago


def test_bars_grow_with_the_rows():
    """The height of a bar is in proportion to its share, this run's in blue and the last one's in grey."""
    chart = parse(bars_chart("t", ["0", "1", "2"], [0.2, 0.8], [0.4, 0.6]))
    bars = {colour: [] for colour in ("#2563eb", "#9ca3af")}
    for rect in chart.iter(f"{SVG}rect"):
        if rect.get("fill") in bars and rect.get("height") != "11":
            bars[rect.get("fill")].append(float(rect.get("height")))
    assert bars["#2563eb"][1] == 4 * bars["#2563eb"][0]
    assert [round(height / bars["#2563eb"][0], 2) for height in bars["#9ca3af"]] == [2.0, 3.0]


def test_nights_without_a_figure_leave_a_gap():
    """A night without labels has no point; its date stays. Titles are escaped."""
    chart = nights_chart("a < b", [Point("01-01", 0.8, 0.7, 0.9), Point("01-02", None), Point("01-03", 0.9)], limit=0.6)
    tree = parse(chart)
    assert len(list(tree.iter(f"{SVG}circle"))) == 2
    assert {"a < b", "01-02", "limit 0.60"} <= {text.text for text in tree.iter(f"{SVG}text")}
    assert markdown_image("t", chart).startswith("![t](data:image/svg+xml;base64,")
