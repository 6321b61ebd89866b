"""``python -m simulator SEED``: repeat one run and print its trace."""

import argparse
import sys

from simulator.run import simulate


def main() -> int:
    """Repeat a run; exit with 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("seed", type=int, help="of the run")
    parser.add_argument(
        "--runs", type=int, default=1, help="how many seeds from there on; traces of failing ones only"
    )
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        report = simulate(seed)
        if options.runs == 1:
            print("\n".join(report.trace))
        for violation in report.violations:
            print(f"seed {seed}: {violation.invariant}: {violation.detail}\n  {report.replay}")
        failed += bool(report.violations)
    print(f"{options.runs - failed} of {options.runs} runs kept every promise", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
