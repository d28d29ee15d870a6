"""vos-table: a sweep's results beside the paper's, from the folders of its runs."""

import argparse
import sys
from pathlib import Path

from vos_lightning.apps.cli import report_errors


def main(argv: list[str] | None = None) -> None:
    """Command line entry; exits with code 1 if a run of the sweep is not finished."""
    parser = argparse.ArgumentParser(prog="vos-table", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="those given to vos-train -m, such as sweeps=table4")
    parser.add_argument("--server", type=Path, help="YAML file with figures that the benchmark's server gave")
    args = parser.parse_args(argv)
    with report_errors("vos-table"):
        sys.exit(0 if _show(args.overrides, args.server) else 1)


def _show(overrides: list[str], server: Path | None) -> bool:
    from vos_lightning.atomic import write_text
    from vos_lightning.report import tables
    from vos_lightning.report.figures import report
    from vos_lightning.report.notes import notes
    from vos_lightning.report.text import as_markdown, as_text
    from vos_lightning.runs.folder import write_json
    from vos_lightning.runs.settings import Dashboard
    from vos_lightning.runs.sweep import launched, sweep_of

    cfg = sweep_of(overrides)
    table = tables.build_table(launched(overrides), server)
    columns, lines = tables.cells_of(table)
    remarks = notes(table)
    name = f"{cfg.run.group}-{cfg.data.name}-{cfg.run.scale}"
    folder = Path(cfg.run.root) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    below = report(table, folder / name)
    title = table.spec["title"]
    print("\n".join(["", title, "", as_text(columns, lines), "", *remarks, *below]))
    more = ["```", *below, "```", ""] if below else []
    markdown = [f"# {title}", "", as_markdown(columns, lines), "", *remarks, "", *more]
    if any(row.results for row in table.rows):
        write_text(folder / f"{name}.md", "\n".join(markdown))
        write_json(folder / f"{name}.json", tables.as_json(table, columns, lines, remarks))
        print(f"\nWritten: {folder / name}.md and .json")
    else:
        print("\nNothing is written: no run is finished of the sweep with these overrides.")
    if cfg.run.logger is not None:
        from vos_lightning.runs.wandb_log import log_table

        dashboard = Dashboard(project=cfg.run.logger.project, mode=cfg.run.logger.mode)
        log_table(dashboard, folder, cfg.run.group, columns, lines)
    return table.complete


if __name__ == "__main__":
    main()
