"""A Griffe extension for the API page: doctests become code blocks, and "[CLS] [SEP]" is no link."""

import griffe


class Docstrings(griffe.Extension):
    """Rewrites every docstring for Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """The docstring with its doctests fenced and neighbouring brackets escaped."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith(">>>") and not inside:
            inside = True
            lines += ["", "```pycon"]
        elif inside and not line.strip():
            inside = False
            lines.append("```")
        lines.append(line if inside or line.startswith("    ") else line.replace("] [", "] \\["))
    return "\n".join([*lines, "```"] if inside else lines)
