"""Counts of a retrieval result file, as the release printed them and ours:

    python -m kaleidobert.app_zoo.analyse_result runs/released/i2t/result_img2txt.txt i2t
"""

import sys
from collections.abc import Sequence

from kaleidobert.errors import UserError
from kaleidobert.evaluators.files import released_results
from kaleidobert.released import counting

DIRECTIONS = {"i2t": "i2t", "t2i": "t2i", "img2txt": "i2t", "txt2img": "t2i"}


def main(arguments: Sequence[str] | None = None) -> int:
    """FILE DIRECTION; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 2 or words[1] not in DIRECTIONS:
        print(f"usage: python -m kaleidobert.app_zoo.analyse_result FILE {'|'.join(DIRECTIONS)}", file=sys.stderr)
        return 2
    direction = DIRECTIONS[words[1]]
    try:
        report = counting.analyse(released_results.read(words[0]), direction)
    except UserError as error:
        print(f"analyse_result: {error}", file=sys.stderr)
        return 2
    print(counting.released_report(report.released), end="")
    print("\n".join(counting.metric_lines(report, direction)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
