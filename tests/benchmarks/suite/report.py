"""What a run says: Markdown tables, JSON, and a plot."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.suite import jobs
from tests.benchmarks.suite.rows import Contender, Goal, Measured, NotInstalled, Ratio

_SIZES_300WLP = (61_225, 122_450)

BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def table(results: Sequence[Measured]) -> str:
    """A line for each baseline of each row, ratios first."""
    lines = [
        "| | beside | × CPU time | × wall time | goal | ours, ms CPU (wall) | theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        row, first = result.row, True
        for baseline in row.baselines:
            name = f"**{row.name}**: {row.unit}" if first else ""
            first = False
            if isinstance(baseline, NotInstalled):
                lines.append(f"| {name} | {baseline.name} | not installed: `{baseline.remedy}` | | | | |")
                continue
            goal = goal_of(result, baseline.name)
            counts = row.clock == "cpu"
            lines.append(
                f"| {name} | {baseline.name} | {_times(result.ratio(baseline.name), bold=True) if counts else '–'} "
                f"| {_times(result.ratio(baseline.name, 'wall'), bold=not counts)} | {_verdict(result, goal)} "
                f"| {_milliseconds(result, row.ours.name)} | {_milliseconds(result, baseline.name)} |"
            )
    return "\n".join(lines)


def limits(results: Sequence[Measured], machine: dict[str, object]) -> str:
    """What each stage must move and compute, and how far from that it is."""
    lines = ["| | MB | Mflop | least ms | ours, ms CPU | times the least |", "|---|---|---|---|---|---|"]
    for result in results:
        row = result.row
        if row.megabytes is None and row.megaflops is None:
            continue
        least = least_ms(result, machine)
        ours = 1e3 * result.seconds(row.ours.name)
        megabytes = "" if row.megabytes is None else f"{row.megabytes:.2f}"
        megaflops = "" if row.megaflops is None else f"{row.megaflops:.2f}"
        lines.append(f"| {row.name} | {megabytes} | {megaflops} | {least:.3f} | {ours:.3f} | {ours / least:.1f} |")
    return "\n".join(lines)


def least_ms(result: Measured, machine: dict[str, object]) -> float:
    """The longer of moving an item's bytes as fast as copying does and of its arithmetic at a matrix product's speed."""
    moving = (result.row.megabytes or 0) / (2 * float(machine["copy_gb_s"]))  # type: ignore[arg-type]  # read and written
    computing = (result.row.megaflops or 0) / float(machine["product_gflop_s"])  # type: ignore[arg-type]
    return max(moving, computing)


def reasons(results: Sequence[Measured]) -> str:
    """Why each ratio is what it is."""
    return "\n".join(f"* **{result.row.name}.** {result.row.why}" for result in results)


def planned(results: Sequence[Measured]) -> str:
    """What 300W-LP takes, by the two builds of different size; nothing where they were not measured."""
    by_name = {result.row.name: result for result in results}
    if not {jobs.FEW, jobs.LARGE} <= by_name.keys():
        return ""
    few, large = by_name[jobs.FEW], by_name[jobs.LARGE]
    n_few, n = few.row.ours.items, large.row.ours.items
    if n == n_few:
        return ""
    lines = []
    for clock, said in (("cpu", "processor time"), ("wall", "the clock")):
        totals = [one.row.ours.items * one.seconds(one.row.ours.name, clock) for one in (few, large)]
        rate = max(totals[1] - totals[0], 0.0) / (n - n_few)
        fixed = max(totals[0] - rate * n_few, 0.0)
        bare, usual = large.seconds(jobs.BARE, clock), large.seconds(jobs.USUAL, clock)
        sizes = []
        for size in (n, *_SIZES_300WLP):
            each = fixed / size + rate
            sizes.append(
                f"{size:,} samples {each * size / 60:.1f} min, {each / bare:.2f} × decoding and warp, the usual recipe "
                f"{usual / each:.1f} × as much"
            )
        lines.append(f"* **By {said}:** {fixed:.1f} s for a run, {1e3 * rate:.2f} ms a sample. {'; '.join(sizes)}.")
    introduction = (
        f"One worker, parametric, from the rows of {n_few:,} and {n:,} samples; 300W-LP has 61,225, with flips 122,450. "
        "`python -m tests.benchmarks.whole_builds` measures more sizes, and memory."
    )
    return "\n\n".join(("## What 300W-LP takes", introduction, "\n".join(lines)))


def remarks(machine: dict[str, object], command: str) -> str:
    """How far this run is to be believed."""
    said = []
    if float(machine["load"]) > 0.5:  # type: ignore[arg-type]
        said.append(
            f"Other work was running when it began (load {machine['load']} on {machine['cores']} cores): read the ratios of "
            "processor time, since what goes by the clock is not decided by such a run."
        )
    if "--quick" in command:
        said.append("Quick: whole jobs once and of few samples, where a run's fixed cost is most of it.")
    return " ".join(said)


def markdown(results: Sequence[Measured], machine: dict[str, object], command: str) -> str:
    """The generated part of docs/benchmarks.md."""
    said = (
        f"{machine['processor']}, {machine['cores']} cores ({machine['vectors']}), load {machine['load']} when the run began; "
        f"Python {machine['python']}, NumPy {machine['numpy']}; one thread copies {machine['copy_gb_s']} GB/s, multiplies "
        f"float32 matrices at {machine['product_gflop_s']} Gflop/s and makes SHA-256 of {machine['sha256_gb_s']} GB/s."
    )
    parts = (
        f"`{command}`: {said}",
        remarks(machine, command),
        table(results),
        planned(results),
        "## How far from the limit",
        limits(results, machine),
        "## Why the gaps are what they are",
        reasons(results),
    )
    return "\n\n".join(part for part in parts if part)


def write_into(page: Path, text: str) -> None:
    """Replace what lies between the page's two marks. Raises ValueError where they are not."""
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r} between which a run could be written")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", before), encoding="utf-8")


def as_json(results: Sequence[Measured], machine: dict[str, object], command: str) -> dict[str, object]:
    """Everything measured, round by round."""
    return {"command": command, "machine": machine, "rows": [_row_as_json(result, machine) for result in results]}


def _row_as_json(result: Measured, machine: dict[str, object]) -> dict[str, object]:
    row = result.row
    installed = [baseline for baseline in row.baselines if isinstance(baseline, Contender)]
    missing = [baseline for baseline in row.baselines if isinstance(baseline, NotInstalled)]
    return {
        "name": row.name,
        "unit": row.unit,
        "ours": row.ours.name,
        "why": row.why,
        "megabytes": row.megabytes,
        "megaflops": row.megaflops,
        "least_ms": least_ms(result, machine) or None,
        "seconds": {
            name: {"cpu": [one.cpu for one in spent], "wall": [one.wall for one in spent]}
            for name, spent in result.spent.items()
        },
        "ratios": {
            one.name: {
                clock: {"median": ratio.median, "low": ratio.spread[0], "high": ratio.spread[1]}
                for clock in ("cpu", "wall")
                for ratio in [result.ratio(one.name, clock)]
            }
            for one in installed
        },
        "not_installed": {one.name: one.remedy for one in missing},
        "goals": [
            {
                "beside": goal.beside,
                "times": goal.times or None,
                "seconds": goal.seconds,
                "clock": goal.clock,
                "met": is_met(result, goal) if any(name.startswith(goal.beside) for name in result.spent) else None,
                "limit": goal.limit,
            }
            for goal in row.goals
        ],
    }


def plot(results: Sequence[Measured], path: Path) -> None:
    """A bar for each baseline: how many times its CPU time (or by the clock) is ours, with the spread and the goal."""
    from matplotlib.figure import Figure  # needs no display

    bars = [
        (
            f"{result.row.name} / {baseline.name}",
            result.ratio(baseline.name, result.row.clock),
            goal_of(result, baseline.name),
        )
        for result in results
        for baseline in result.row.baselines
        if isinstance(baseline, Contender)
    ]
    figure = Figure(figsize=(9, 1 + 0.24 * len(bars)), layout="constrained")
    axes = figure.subplots()
    places = range(len(bars))
    medians = [ratio.median for _, ratio, _ in bars]
    spread = [[m - ratio.spread[0] for m, (_, ratio, _) in zip(medians, bars, strict=True)],
              [ratio.spread[1] - m for m, (_, ratio, _) in zip(medians, bars, strict=True)]]  # fmt: skip
    colours = ["#3b6ea5" if median >= 1 else "#b5651d" for median in medians]
    axes.barh(places, [m - 1 for m in medians], left=1, xerr=spread, color=colours, ecolor="#555555", height=0.7)
    goals = [(place, goal.times) for place, (_, _, goal) in enumerate(bars) if goal and goal.times]
    if goals:
        axes.scatter([times for _, times in goals], [place for place, _ in goals], marker="|", s=90, color="black",
                     zorder=3, label="goal")  # fmt: skip
        axes.legend(loc="lower right")
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(places, [name for name, _, _ in bars], fontsize=7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("the baseline's CPU time over ours (right of 1: ours is faster)")
    figure.savefig(path, dpi=130)


def goal_of(result: Measured, baseline: str) -> Goal | None:
    """The goal that is about this baseline: one goal belongs to the first name that begins so."""
    for goal in result.row.goals:
        if next((name for name in result.spent if name.startswith(goal.beside)), None) == baseline:
            return goal
    return None


def is_met(result: Measured, goal: Goal) -> bool:
    """By the medians of this run."""
    if goal.seconds is not None:
        return result.seconds(result.row.ours.name, goal.clock) <= goal.seconds
    name = next(name for name in result.spent if name.startswith(goal.beside))
    return result.ratio(name, goal.clock).median >= goal.times


def _verdict(result: Measured, goal: Goal | None) -> str:
    if goal is None:
        return ""
    said = f"{1e3 * goal.seconds:.0f} ms" if goal.seconds is not None else f"{goal.times:g} ×"
    clock = " by the clock" if goal.clock == "wall" else ""
    return f"{said}{clock}, {'met' if is_met(result, goal) else f'**limit**: {goal.limit}'}"


def _times(ratio: Ratio, *, bold: bool = False) -> str:
    low, high = ratio.spread
    middle = f"{_short(ratio.median)} ×"
    spread = f" ({_short(low)} to {_short(high)})" if len(ratio.rounds) > 1 else ""
    return (f"**{middle}**" if bold else middle) + spread


def _milliseconds(result: Measured, name: str) -> str:
    cpu = _short(1e3 * result.seconds(name)) if result.row.clock == "cpu" else "–"
    return f"{cpu} ({_short(1e3 * result.seconds(name, 'wall'))})"


def _short(value: float) -> str:
    for least, digits in ((100, 0), (10, 1), (0.1, 2)):
        if value >= least:
            return f"{value:.{digits}f}"
    return f"{value:.3f}"
