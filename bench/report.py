"""What a benchmark says: Markdown tables, the section of the README and the plot."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import machine
from timing import Timing

README = Path(__file__).resolve().parent.parent / "README.md"
VARIANTS = {
    "PyTorch fused": "PyTorch",
    "PyTorch foreach": "PyTorch",
    "PyTorch by hand": "PyTorch",
    "JAX jit": "JAX",
}
COLUMNS = ("gradcore", "NumPy", "SciPy", "PyTorch", "JAX", *VARIANTS, "scikit-learn")
METHOD = (
    "Medians over rounds in which the libraries take turns; `ratio` is the fastest peer's time / gradcore's, "
    "so below 1 (bold) gradcore is slower."
)
README_ROWS = ("sigmoid, 1e5", "relu, 1e5", "gelu, 1e5", "256×1000", "100 of 10000", "1000 of 100")


@dataclass(frozen=True)
class Row:
    """One race."""

    group: str
    name: str
    timings: dict[str, Timing]
    bar: float | None = None
    peak_seconds: float | None = None  # what the arithmetic alone would take at the FMA peak of the same run
    share_bar: float | None = None

    def ratio(self, figure: str) -> float:
        """Time of the fastest peer / time of gradcore, of "median" or "minimum"."""
        times = {name: getattr(timing, figure) for name, timing in self.timings.items()}
        ours = times.pop("gradcore")
        return min(times.values()) / ours

    @property
    def share(self) -> float:
        """Of the FMA peak, by the minimum."""
        assert self.peak_seconds is not None
        return self.peak_seconds / self.timings["gradcore"].minimum

    @property
    def lost(self) -> bool:
        return self.ratio("median") < 1


@dataclass(frozen=True)
class Promise:
    """A measured figure against what was promised."""

    name: str
    value: float
    bar: float
    unit: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def seconds(value: float) -> str:
    """Three figures and a unit: 12.3 µs, 4.56 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size or unit == "µs":
            return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"
    raise AssertionError


def verdict(bar: float | None, kept: bool) -> str:
    return "" if bar is None else f"{bar:g} {'✓' if kept else '✗'}"


def table(rows: list[Row]) -> str:
    """Markdown: one line per race, one column per library that ran in any of them."""
    columns = [name for name in COLUMNS if any(name in row.timings for row in rows)]
    bars = any(row.bar is not None for row in rows)
    head = ["", *columns, "ratio", "of minima", *(["bar"] if bars else [])]
    lines = [head, ["---", *("---:" for _ in head[1:])]]
    for row in rows:
        cells = [seconds(row.timings[name].median) if name in row.timings else "" for name in columns]
        ratio = f"{row.ratio('median'):.2f}"
        line = [row.name, *cells, f"**{ratio}**" if row.lost else ratio, f"{row.ratio('minimum'):.2f}"]
        lines.append(
            [*line, verdict(row.bar, row.bar is None or row.ratio("median") >= row.bar)] if bars else line
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def promise_table(promises: list[Promise]) -> str:
    lines = ["| promise | measured | bar |", "| --- | ---: | ---: |"]
    for p in promises:
        sign = "≥" if p.at_least else "≤"
        lines.append(
            f"| {p.name} | {p.value:.3g} {p.unit} | {sign} {p.bar:g} {p.unit} {'✓' if p.kept else '✗'} |"
        )
    return "\n".join(lines)


def losses(rows: list[Row]) -> str:
    lost = sorted((row for row in rows if row.lost), key=lambda row: row.ratio("median"))
    if not lost:
        return "gradcore lost none of these races."
    named = "; ".join(f"{row.group} {row.name} ({row.ratio('median'):.2f})" for row in lost)
    return f"**gradcore loses** {len(lost)} of {len(rows)} races: {named}."


def page(rows: list[Row], promises: list[Promise]) -> str:
    parts = ["# gradcore against its peers", machine.describe(), f"{METHOD} {losses(rows)}"]
    for group in dict.fromkeys(row.group for row in rows):
        chosen = [row for row in rows if row.group == group]
        parts += [f"## {group.capitalize()}", table(chosen)]
        if group == "step":
            shares = (
                f"{row.name}: {100 * row.share:.0f} % ({verdict(100 * row.share_bar, row.share >= row.share_bar)})"
                for row in chosen
                if row.share_bar is not None
            )
            parts.append(
                "Share of the same run's FMA peak that gradcore's whole step reaches, by the minimum (bar): "
                + "; ".join(shares)
                + "."
            )
    if promises:
        parts += ["## Promises", promise_table(promises)]
    return "\n\n".join(parts) + "\n"


METHOD = (
    "Medians over rounds in which the libraries take turns; `ratio` is the fastest peer's time / gradcore's, "
    "so below 1 (bold) gradcore is slower."
)
README_ROWS = ("sigmoid, 1e5", "relu, 1e5", "gelu, 1e5", "256×1000", "100 of 10000", "1000 of 100")
VARIANTS = {
    "PyTorch fused": "PyTorch",
    "PyTorch foreach": "PyTorch",
    "PyTorch by hand": "PyTorch",
    "JAX jit": "JAX",
}


def merged(row: Row) -> Row:
    """One column per library: its fastest variant."""
    best: dict[str, Timing] = {}
    for name, timing in row.timings.items():
        library = VARIANTS.get(name, name)
        best[library] = min(timing, best.get(library, timing), key=lambda t: t.median)
    return replace(row, timings=best)


def readme_section(rows: list[Row], promises: list[Promise]) -> str:
    steps = [
        replace(row, name=row.name.removesuffix(", relu, sgd"))
        for row in rows
        if row.name.endswith("relu, sgd")
    ]
    arrays = [
        replace(row, name=f"{row.group}: {row.name}")
        for row in rows
        if row.group != "step" and row.group != "activation backward" and row.name in README_ROWS
    ]
    parts = [
        "Training steps (ReLU, momentum, clipping by the global norm):",
        table([merged(row) for row in steps]),
    ]
    if arrays:
        parts += ["Array functions:", table([merged(row) for row in arrays])]
    if promises:
        parts += ["Promises:", promise_table(promises)]
    parts.append(f"{METHOD} {losses(rows)} All rows: [bench/results/table.md](bench/results/table.md).")
    parts.append(f"Machine: {machine.describe()}")
    return "\n\n".join(parts)


def update_readme(section: str) -> None:
    text = README.read_text()
    pattern = re.compile(r"(<!-- bench:begin -->\n).*?(<!-- bench:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit("README.md has no <!-- bench:begin --> … <!-- bench:end --> lines to write between.")
    README.write_text(pattern.sub(lambda found: f"{found[1]}{section}\n{found[2]}", text))


def plot(rows: list[Row], path: Path) -> None:
    """Dots on a log axis: how many times longer than gradcore each library takes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "gradcore", "font.size": 9})
    import matplotlib.pyplot as plt

    libraries = [name for name in COLUMNS[1:] if any(name in merged(row).timings for row in rows)]
    styles = dict(zip(libraries, ("o", "s", "^", "D", "v"), strict=False))
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.21 * len(rows)))
    for height, row in enumerate(reversed(rows)):
        timings = merged(row).timings
        for index, library in enumerate(libraries):
            if library in timings:
                ratio = timings[library].median / timings["gradcore"].median
                axes.plot(
                    ratio, height, styles[library], color=f"C{index}", ms=4.5, label=library, clip_on=False
                )
    axes.axvline(1, color="black", lw=1)
    axes.axvspan(axes.get_xlim()[0], 1, color="black", alpha=0.06, lw=0)
    axes.set(
        xscale="log", ylim=(-0.8, len(rows) - 0.2), xlabel="time / gradcore's time (left of 1 gradcore loses)"
    )
    axes.set_yticks(range(len(rows)), [f"{row.group} {row.name}" for row in reversed(rows)])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="upper right", ncols=len(unique), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    figure.savefig(path, metadata={"Date": None})
