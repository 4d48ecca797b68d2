"""A report as tables of strings, which the terminal prints and `page.py` draws.

Place in the flow: `report.py` -> here -> `malmoi/cli/router/report.py`, `page.py`. Read next: `page.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from malmoi.router.report import Outcome, Report

SHARES = tuple(tenths / 10 for tenths in range(11))
PARTS = (0.5, 0.8, 0.95)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under a header."""

    title: str
    korean: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: Report) -> list[Table]:
    """All of them: the threshold, the curve, its measures, calibration."""
    return [threshold_table(report), curve_table(report), measure_table(report), calibration_table(report)]


def threshold_table(report: Report) -> Table:
    """What the router's own threshold gives, of all rows and of each language."""
    groups = {"all": report.at_threshold, **report.by_language}
    return Table(
        title=f"at its threshold ({report.manifest.dial})",
        korean="정한 문턱에서",
        header=(
            "", "rows", "strong calls", "cost", "score", "of the strong one's", "chance", "weak alone", "strong alone",
        ),
        rows=tuple((name, *_cells(outcome)) for name, outcome in groups.items()),
    )  # fmt: skip


def curve_table(report: Report) -> Table:
    """Score against share of strong calls."""
    curve = report.curve
    rows = [
        (f"{share:.0%}", *(f"{score:.4f}" for score in (curve.at(share), chance, report.oracle.at(share))))
        for share in SHARES
        for chance in (curve.weak + share * (curve.strong - curve.weak),)
    ]
    return Table(
        title="score by share of strong calls",
        korean="강한 모델에 보낸 비율과 점수",
        header=("strong calls", "router", "chance", "oracle"),
        rows=tuple(rows),
    )


def measure_table(report: Report) -> Table:
    """The measures of RouteLLM, and how many strong calls keep 95 % of the score."""
    curve, best = report.curve, report.oracle
    is_gap = curve.strong > curve.weak
    rows: list[Sequence[str]] = []
    if is_gap:
        rows.append(("APGR", *(f"{one.performance_gap_recovered:.3f}" for one in (curve, best)), "0.500"))
        rows += [
            (
                f"CPT({part:.0%}): strong calls for that much of the gap",
                *(f"{one.share_to_recover(part):.1%}" for one in (curve, best)),
                f"{part:.1%}",
            )
            for part in PARTS
        ]
        needed = 0.95 * curve.strong
        by_chance = max(0.0, (needed - curve.weak) / (curve.strong - curve.weak))
        rows.append(
            (
                "strong calls for 95% of the strong one's score",
                *(f"{one.share_for(needed):.1%}" for one in (curve, best)),
                f"{by_chance:.1%}",
            )
        )
    rows.append(
        ("score over chance, mean", *(f"{one.gain_over_chance:+.4f}" for one in (curve, best)), "+0.0000")
    )
    return Table(
        title="measures",
        korean="지표",
        header=("", "router", "oracle", "chance"),
        rows=tuple(tuple(row) for row in rows),
    )


def calibration_table(report: Report) -> Table:
    """How often the weak model was as good where the router said how probable that is."""
    return Table(
        title=f"is the probability true? mean error {report.calibration_error:.3f}",
        korean="확률이 맞는가",
        header=("said", "found", "rows"),
        rows=tuple((f"{one.said:.3f}", f"{one.found:.3f}", f"{one.num:,}") for one in report.bins),
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    of_strong = f"{outcome.score / outcome.strong:.1%}" if outcome.strong else "–"
    return (
        f"{outcome.num:,}",
        f"{outcome.strong_share:.1%}",
        f"{outcome.cost_share:.1%}",
        f"{outcome.score:.4f}",
        of_strong,
        f"{outcome.chance:.4f}",
        f"{outcome.weak:.4f}",
        f"{outcome.strong:.4f}",
    )
