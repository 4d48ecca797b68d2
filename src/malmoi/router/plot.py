"""A `Report` as a picture: score against strong calls, and said against found. It needs matplotlib."""

import io
from importlib.util import find_spec

from malmoi.core.errors import ConfigError
from malmoi.router.report import Report


def require_matplotlib() -> None:
    """Refuse before the work rather than after it. Raises ConfigError where nothing could be drawn."""
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a picture needs matplotlib, which comes with an extra: pip install 'malmoi[train]'. Without --png and "
            "--html the tables are printed."
        )


def draw(report: Report) -> bytes:
    """A PNG: the curve of the router between chance and the oracle with its threshold, and its calibration."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    with mpl.rc_context({"font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        curve, best, at = report.curve, report.oracle, report.at_threshold
        left.set(xlabel="share of strong calls", ylabel="score")
        left.plot(best.shares, best.scores, color="#9db4c0", label="oracle")
        left.plot(
            curve.shares,
            curve.scores,
            color="#253237",
            linewidth=1.8,
            label="router",
        )
        left.plot([0, 1], [curve.weak, curve.strong], "--", color="#9db4c0", label="chance")
        left.axhline(0.95 * curve.strong, color="#8886", linewidth=0.8)
        left.annotate("95 % of the strong one", (1, 0.95 * curve.strong), ha="right", va="bottom", fontsize=8)
        said = f"threshold: {at.strong_share:.0%} strong, {at.score:.3f}"
        left.plot(at.strong_share, at.score, "o", color="#c1121f", label=said)
        left.xaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(frameon=False, loc="outside lower center", ncols=4)
        right.set(xlabel="said: the weak one is as good", ylabel="found", xlim=(0, 1), ylim=(0, 1))
        right.plot([0, 1], [0, 1], "--", color="#9db4c0")
        right.plot(
            [one.said for one in report.bins], [one.found for one in report.bins], "o-", color="#253237"
        )
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()
