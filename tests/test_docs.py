"""The pages say what is there: links and anchors lead somewhere, files and names that they quote exist, commands and keys are accepted."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from kaleidobert import cli
from kaleidobert.app_zoo import commands as command_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in
         sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("dataset/*.md"),
                 *ROOT.glob("checkpoint/*.md")])]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# what a user has or what a command writes: quoted in pages, absent from the repository
ELSEWHERE = re.compile(r"^(my|runs|out|bank|data|align|cache|checkpoint|dataset|FOLDER|RUN|BANK)(/|$)|^~|^/|\*|[<>{}$…]")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them; of equal ones the first."""
    heads = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head).lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES)
def test_quoted_files_exist(page):
    """`a/b.py`, `configs/x.yaml` and the like, seen from the repository, the package or the page's folder."""
    missing = []
    for word in re.findall(r"`([^`\n]+)`", prose_of(page)):
        if not re.fullmatch(r"[\w./-]+\.(py|sh|md|yaml|yml|toml|npz|svg|css|html)|[\w.-]+(/[\w.-]+)*/", word) or ELSEWHERE.search(word):
            continue
        if page == "CHANGELOG.md" or not ("/" in word.rstrip("/") or word.endswith((".py", ".sh"))):
            continue  # what was called so once; names of files that runs write
        if not any((base / word).exists() for base in (ROOT, ROOT / "kaleidobert", (ROOT / page).parent)):
            missing.append(word)
    assert not missing


def test_names_in_the_paper_in_the_code_stand_in_their_files():
    missing = []
    for line in text_of("docs/paper-in-the-code.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3:
            continue
        files = [name for name in re.findall(r"`([^`]+\.py)`", cells[1])]
        if not files:
            continue
        code = "\n".join((ROOT / "kaleidobert" / name).read_text(encoding="utf-8") for name in files)
        missing += [(files, name) for name in re.findall(r"`(\w+)`", cells[2])
                    if not re.search(rf"^\s*(def|class) {name}\b|^{name}\b.* =", code, re.M)]
    assert not missing


def commands(page: str) -> list[str]:
    """The lines of a page's shell blocks that call us, without comments."""
    blocks = [block for language, block in FENCE.findall(text_of(page)) if language in ("bash", "sh", "console", "shell")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^| +)#.*$", "", line).removeprefix("$ ").strip() for line in lines) if line]


CALLS = [(page, line) for page in PAGES for line in commands(page) if line.startswith(("kaleidobert ", "python -m "))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder in which a reader stands: the repository's files, and the YAML files that the pages write in my/."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("configs", "dataset", "checkpoint", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for page in PAGES:
        for language, block in FENCE.findall(text_of(page)):
            named = re.match(r"# (my/[\w./-]+\.yaml)", block)
            if language == "yaml" and named and not (folder / named[1]).exists():
                (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / named[1]).write_text(block, encoding="utf-8")
    return folder


@pytest.mark.parametrize("page, line", CALLS)
def test_commands_are_accepted(page, line, desk, monkeypatch):
    """Module, command, configuration and every key exist, and every value is of its type; nothing is run."""
    monkeypatch.chdir(desk)
    words = [word for word in shlex.split(line) if word not in ("--dry-run", "--reduced")]
    if words[0] == "python":
        assert importlib.util.find_spec(words[2]) is not None
        return
    command, *words = words[1:]
    if command == "quickstart":
        assert not words
        return
    if words and f"{command} {words[0]}" in command_table.every():
        command = f"{command} {words.pop(0)}"
    paths = [word for word in words if "=" not in word]
    words = [word for word in words if "=" in word]
    row = command_table.every()[command]
    if row.takes_query or row.leading:
        command_table.load(command, *cli.configuration(command, [*paths, *words]))
        return
    assert paths if row.takes_folders else len(paths) <= 1
    command_table.load(command, paths[0] if paths and not row.takes_folders else None, words)


@pytest.mark.parametrize("page", PAGES)
def test_scripts_of_commands_exist(page):
    for line in commands(page):
        for name in re.findall(r"(?<![\w/.])((?:scripts|dataset|checkpoint)/[\w/.-]+\.sh)", line):
            assert (ROOT / name).is_file(), line
