"""A `Report` as a picture: the roof that the machine is, and under it what the model reaches."""

import io
from importlib.util import find_spec

from malmoi.bench.report import Report

HOW_TO_DRAW = "a picture needs matplotlib, which comes with an extra: pip install 'malmoi[train]'"


def can_draw() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def draw_roofline(report: Report) -> bytes:
    """A PNG, both axes logarithmic: operations a byte, and operations a second.

    A workload is a point with its slowest and fastest round; the broken line above it ends where the roof is.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    with mpl.rc_context({"font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="operations a second")
        axes.set_title(f"{report.name}, {report.precision}, threads: {report.machine.threads}", loc="left")
        bandwidth, rate = report.bandwidth.median, report.matrix_rate.median
        ridge = rate / bandwidth
        found = [row.work.intensity for row in report.rows]
        ends = [min([*found, ridge]) / 2, ridge, max([*found, ridge]) * 4]
        axes.plot(ends, [ends[0] * bandwidth, rate, rate], color="#253237", linewidth=1.8)
        label = f"memory {bandwidth / 1e9:.1f} GB/s, products {rate / 1e12:.2f} TFLOP/s"
        axes.annotate(label, (ends[2], rate), (0, 5), textcoords="offset points", ha="right", fontsize=9)
        for row in report.rows:
            x, flops = row.work.intensity, row.work.flops
            y, low, high = (flops / s for s in (row.seconds.median, row.seconds.high, row.seconds.low))
            axes.plot([x, x], [y, min(x * bandwidth, rate)], ":", color="#9db4c0")
            axes.errorbar(x, y, [[y - low], [high - y]], fmt="o", color="#c1121f", capsize=3)
            said = f"{row.name}\n{row.tokens_per_second:,.1f} tokens/s, {row.share.median:.0%}"
            axes.annotate(said, (x, y), (8, -4), textcoords="offset points", va="top", fontsize=8)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.margins(x=0.12, y=0.2)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()
