"""Results of runs in the layout of the paper's Tables 2 (retrieval) and 3 (classification, captioning), the paper's rows beside ours.

    print("\\n".join(markdown(table) for table in tables([Result("i2t", "runs/i2t/results.json", read_json(...)), ...])))
"""

from collections.abc import Sequence

from kaleidobert.evaluators.report.tables_labels import label_details, labels_and_captions, task_of
from kaleidobert.evaluators.report.tables_layout import Table, markdown, to_json
from kaleidobert.evaluators.report.tables_paper import DIRECTIONS
from kaleidobert.evaluators.report.tables_read import Result
from kaleidobert.evaluators.report.tables_retrieval import retrieval, retrieval_details

__all__ = ["Result", "TASKS", "kind", "markdown", "tables", "to_json"]

TASKS = {"retrieve": "rank@1", "classify": "accuracy", "caption": "bleu4"}  # and a metric that only this task has


def kind(result: Result) -> str | None:
    """The task whose tables have room for a result; None where none has. Of `kaleidobert evaluate`, its metrics tell."""
    task = result.text("task")
    if task == "evaluate":
        return next((name for name, metric in TASKS.items() if metric in result.group("metrics")), None)
    return task if task in TASKS else None


def tables(results: Sequence[Result]) -> list[Table]:
    """Table 2, Table 3 and their details, as far as the results fill them. Results of other tasks are passed over; those of no
    direction, and of labels that are no category, stand in the details only.

    Raises UserError that names file and key where a result lacks what its task has.
    """
    of = {task: [result for result in results if kind(result) == task] for task in TASKS}
    directed = [result for result in of["retrieve"] if result.text("direction") in DIRECTIONS]
    named = [result for result in of["classify"] if task_of(result)]
    made = [retrieval(directed)] if directed else []
    made += [retrieval_details(of["retrieve"])] if of["retrieve"] else []
    made += [labels_and_captions(named, of["caption"])] if named or of["caption"] else []
    return made + ([label_details(of["classify"])] if of["classify"] else [])
