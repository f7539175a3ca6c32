"""The plot of scripts/bench-netperf, as SVG: bars by lane for each test, and below them growth over the number of
Services. One slide of 16 to 9."""

from xml.sax.saxutils import escape

WIDTH, MARGIN, LABELS, GAP = 1600, 40, 270, 24
TOP, ROW, GROWTH = 132, 19, 190
FONT = "font-family='DejaVu Sans, Verdana, Helvetica, Arial, sans-serif'"
INK, SOFT, GRID = "#1f2933", "#616e7c", "#d9dee4"
COLORS = {"base": "#9aa5b1", "vipmap": "#1f6feb", "other": "#d9730d"}
BASES = ("none", "conntrack", "nat", "dnat")
FAMILIES = {4: ("#1f6feb", ""), 6: ("#0b7a75", " stroke-dasharray='7 4'")}


def text(x, y, words, size=13, color=INK, anchor="start", weight="normal"):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{color}' text-anchor='{anchor}' "
            f"font-weight='{weight}'>{escape(words)}</text>")


def line(x1, y1, x2, y2, color=GRID, width=1.0, more=""):
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{color}' stroke-width='{width}'{more}/>"


def box(x, y, width, height, color):
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height}' rx='2' fill='{color}'/>"


def kind_of(name):
    lane = name.rpartition("/")[0]
    if lane in BASES:
        return "base"
    return "vipmap" if lane.startswith("vipmap-") or lane in ("nodeport", "lb", "sticky", "fastpath") else "other"


def rows_of(bars):
    """(y, bar or None for the head of a family, family) for each row, and where they end."""
    rows, y, family = [], TOP, None
    for bar in bars:
        if bar["family"] != family:
            family = bar["family"]
            y += 6 if rows else 0
            rows.append((y, None, family))
            y += ROW
        rows.append((y, bar, family))
        y += ROW
    return rows, y


def draw_labels(rows):
    for y, bar, family in rows:
        if bar is None:
            yield text(MARGIN, y + 14, f"IPv{family}", 14, weight="bold")
        else:
            yield text(MARGIN + LABELS - 12, y + 14, bar["words"], 12.5, anchor="end")


def draw_bars(rows, test, x, width):
    highest = max(bar["values"][test][0] for _, bar, _ in rows if bar)
    scale = (width - 96) / highest
    for y, bar, _ in rows:
        if bar is None:
            continue
        value, percent = bar["values"][test]
        length = value * scale
        yield box(x, y + 2, length, ROW - 4, COLORS[kind_of(bar["name"])])
        words = f"{value:,.0f}" + (f" · {percent:.1f}%" if percent else "")
        yield text(x + length + 5, y + 14, words, 11.5)


def nice_floor(value):
    for floor in (98, 96, 94, 92, 90, 85, 80, 60, 40, 20):
        if value > floor + 0.7:
            return floor
    return 0


def draw_growth(lines, goal, floor, ceiling, x, y, width):
    """@lines of one test. Services go by powers of ten, and zero to the left of one."""
    def across(count):
        digits, rest = 0, max(1, count)
        while rest > 1:
            rest, digits = rest / 10, digits + 1
        return digits if rest == 1 else digits - 1 + rest

    counts = sorted({count for each in lines for count, _ in each["points"]})
    far = max(1.0, max(map(across, counts)))
    left, right, bottom = x + 44, x + width - 20, y + GROWTH

    def place(count, percent):
        return (left + across(count) / far * (right - left), bottom - (percent - floor) / (ceiling - floor) * GROWTH)

    step = 1 if ceiling - floor <= 8 else 2 if ceiling - floor <= 16 else 5 if ceiling - floor <= 40 else 20
    for tick in range(floor, ceiling + 1, step):
        height = place(0, tick)[1]
        yield line(left, height, right, height)
        yield text(left - 6, height + 4, f"{tick}%", 11, SOFT, "end")
    for count in counts:
        yield text(place(count, floor)[0], bottom + 17, f"{count:,}", 11, SOFT, "middle")
    if goal and floor <= goal <= ceiling:
        height = place(0, goal)[1]
        yield line(left, height, right, height, "#c0392b", 1.2, " stroke-dasharray='2 3'")
        yield text(left + 8, height + (13 if goal > floor + 1 else -4), f"goal {goal}%", 10.5, "#c0392b")
    for each in lines:
        color, dashes = FAMILIES[each["family"]]
        points = [place(*point) for point in each["points"] if point[1]]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        yield f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2.2'{dashes}/>"
        for px, py in points:
            yield f"<circle cx='{px:.1f}' cy='{py:.1f}' r='3.6' fill='{color}'/>"


def legend(y):
    x = WIDTH - MARGIN
    yield text(x, y, "IPv6", 12, anchor="end")
    yield line(x - 78, y - 4, x - 36, y - 4, FAMILIES[6][0], 2.2, FAMILIES[6][1])
    yield text(x - 96, y, "IPv4", 12, anchor="end")
    yield line(x - 174, y - 4, x - 132, y - 4, FAMILIES[4][0], 2.2)


def key(bars):
    """What the colors of bars mean."""
    x = WIDTH - MARGIN
    words = {"other": "others", "vipmap": "vipmap", "base": "without a proxy"}
    for kind, word in words.items():
        if any(kind_of(bar["name"]) == kind for bar in bars):
            yield text(x, 84, word, 12, anchor="end")
            x -= 7 * len(word) + 20
            yield box(x, 73, 13, 13, COLORS[kind])
            x -= 18


def draw(tests, bars, lines, about):
    """
    @tests: (test, title, goal in percent or None); @bars: of a lane, "values" of which are (figure, percent of plain
    conntrack) by test; @lines: of a family and test, "points" are (number of Services, percent of plain conntrack).
    """
    rows, end = rows_of(bars)
    lines = [each for each in lines if any(percent for _, percent in each["points"])]
    height = end + (GROWTH + 130 if lines else 20)
    width = (WIDTH - 2 * MARGIN - LABELS - GAP * (len(tests) - 1)) / len(tests)
    size = f"viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'"
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT}>",
           f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
           text(MARGIN, 52, "Through a node: client → rules → endpoint", 27, weight="bold"),
           text(MARGIN, 84, about, 13, SOFT), *key(bars), *draw_labels(rows)]
    percents = [percent for each in lines for _, percent in each["points"] if percent]
    floor, ceiling = (nice_floor(min(percents)), max(100, int(max(percents)) + 1)) if percents else (0, 100)
    if lines:
        out += [text(MARGIN, end + 52, "As Services grow", 17, weight="bold"), *legend(end + 52)]
        words = ("vipmap, ClusterIP,", "percent of plain conntrack", "of the same family,", "by the number of",
                 "other Services")
        out += [text(MARGIN, end + 84 + 18 * i, each, 12.5) for i, each in enumerate(words)]
    for i, (test, title, goal) in enumerate(tests):
        x = MARGIN + LABELS + i * (width + GAP)
        out += [text(x, TOP - 8, title, 15, weight="bold"),
                text(x + width, TOP - 8, "% of plain conntrack", 11, SOFT, "end"),
                line(x, TOP, x, end, SOFT), *draw_bars(rows, test, x, width)]
        here = [each for each in lines if each["test"] == test]
        if here:
            out += [text(x + 44, end + 68, title.split(" ")[0], 13, weight="bold"),
                    *draw_growth(here, goal, floor, ceiling, x, end + 78, width)]
    return "\n".join([*out, "</svg>", ""])
