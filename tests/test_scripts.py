"""The scripts under every POSIX shell, called in every way, from any folder; the environment that they enter is made of stand-ins."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(path for folder in ("scripts", "dataset", "checkpoint", "benchmarks") for path in (ROOT / folder).glob("*.sh")),
                  ROOT / ".ci/run"])
CALLED = [path for path in SCRIPTS if path.name != "environment.sh"]  # which the others source
SHELLS = {"sh": ["sh"], "dash": ["dash"], "bash": ["bash"], "bash --posix": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
TYPED = {  # as in the README of the release: folder, script -> the command behind it and the words that it is given first
    "scripts": {f"run_{name}.sh": ("python", ["-m", "kaleidobert.released_cli", name, "ROOT/configs"])
                for name in ("cat", "subcat", "i2t", "t2i", "pretrain")},
    "scripts/checkpoint": {"get_checkpoint.sh": ("kaleidobert", ["fetch", "manifest=ROOT/checkpoint/manifest.json"])},
    "scripts/dataset": {f"get_{script}_data.sh": ("kaleidobert", ["fetch", f"only=[{script}]", "manifest=ROOT/dataset/manifest.json"])
                        for script in ("finetune", "retrieve", "pretrain")}}
COMMANDS = {"convert": "convert", "run_align": "align", "run_caption": "caption", "run_foreground": "train-foreground",
            "run_records": "records"}
WORDS = ["train.epochs=1", "init=", "", "source.table=my products/a  b.csv", "x=*", "y=$HOME `z` \"q\" 'r' \\n", "-", "--dry-run"]
STAND_IN = """#!{python} -IS
import json, os, sys
if sys.argv[1:2] == ["-c"]:  # the one question that environment.sh asks
    print(os.environ["VIRTUAL_ENV"])
    sys.exit()
with open(os.environ["SAID"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), os.getcwd(), *sys.argv[1:]]) + "\\n")
sys.exit(int(os.environ.get("PIP" if "pip" in sys.argv else "STATUS", 0)))
"""


@pytest.fixture(params=SHELLS)
def shell(request) -> list[str]:
    words = SHELLS[request.param]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    if request.param == "dash" and os.path.samefile(shutil.which("sh"), shutil.which("dash")):
        pytest.skip("sh is dash")
    return words


class Project:
    """A copy of the scripts in a folder whose name holds blanks, and an environment that only writes down what it is asked."""

    def __init__(self, folder: Path):
        self.root, self.said, self.environment = folder / "my project", folder / "said", folder / "an environment"
        for path in SCRIPTS:
            copy = self.root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        for name in ("dataset", "checkpoint"):
            (self.root / "scripts" / name).symlink_to(os.readlink(ROOT / "scripts" / name))
        (self.root / "pyproject.toml").write_text("")
        (self.environment / "bin").mkdir(parents=True)
        for name in ("python", "kaleidobert", "ruff", "chromium"):
            (self.environment / "bin" / name).write_text(STAND_IN.format(python=sys.executable))
            (self.environment / "bin" / name).chmod(0o755)
        self.variables = {name: value for name, value in os.environ.items() if name not in ("CONDA_PREFIX", "CDPATH", "KAWARGS")} | {
            "VIRTUAL_ENV": str(self.environment), "SAID": str(self.said), "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}"}

    def call(self, words: list[str], folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(words, cwd=folder or self.root, env=self.variables | variables, text=True, capture_output=True)

    def asked(self, installed: bool = True) -> list[list[str]]:
        """What was asked since the last call of this, the installation aside; the folder of the project is ROOT."""
        text = self.said.read_text().replace(str(self.root), "ROOT") if self.said.exists() else ""
        self.said.unlink(missing_ok=True)
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if not (installed and "pip" in line)]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path.resolve())


def test_what_every_script_is():
    """A POSIX script that finds its own place by the same three lines, and nothing that only one shell knows."""
    places = set()
    for path in CALLED:
        text = path.read_text()
        assert text.startswith("#!/bin/sh\n") and os.access(path, os.X_OK), path
        places.add("\n".join(re.search(r"^here=.*\n.*\n^root=.*$", text, re.M).group().splitlines()))
    assert len(places) == 1
    for path in SCRIPTS:
        code = re.sub(r"(?m)(^|\s)#.*", "", path.read_text())
        assert not re.search(r"(?m)BASH|^\s*source\b|\[\[|pipefail|\blocal\b|<\(|\bfunction\b|\bbash\b|\+=|\$\{\w+//|\w=\(", code), path
        assert subprocess.run(["sh", "-n", path]).returncode == 0, path


@pytest.mark.parametrize("folder", TYPED)
def test_the_commands_of_the_release_as_they_are_typed(project, shell, folder):
    """`cd scripts/dataset && sh get_finetune_data.sh`; the folders below scripts are links."""
    for script, (command, first) in TYPED[folder].items():
        words = [] if folder == "scripts" else ["--mirror", "my place/x", "--only", "a b*", "into=", "--list"]
        # the shell's own idea of where it is goes through the link, as a person's does
        done = project.call([*shell, "-c", 'cd "$0" && shift 0 && exec "$@"', folder, *shell, script, *words])
        assert done.returncode == 0 and not done.stderr, done.stderr
        if words:
            first = ["fetch", "only=[a b*]", first[-1], "mirror=my place/x", "into=", "--dry-run"]
        assert project.asked() == [[command, f"ROOT/{folder.rpartition('/')[2]}", *first]]


@pytest.mark.parametrize("name", COMMANDS)
def test_words_reach_the_command_as_they_are(project, shell, name):
    folder = project.root / "elsewhere"
    folder.mkdir()
    config = {"run_foreground": "train_foreground"}.get(name, COMMANDS[name])
    for words, expected in ((WORDS, [f"ROOT/configs/{config}.yaml", *WORDS]), ([], [f"ROOT/configs/{config}.yaml"]),
                            (["my config.yml", *WORDS], ["my config.yml", *WORDS])):
        done = project.call([*shell, f"../scripts/{name}.sh", *words], folder, STATUS="7")
        assert done.returncode == 7 and not done.stderr
        assert project.asked() == [["kaleidobert", "ROOT/elsewhere", COMMANDS[name], *expected]]


def test_words_reach_the_translation_of_flags_as_they_are(project, shell):
    done = project.call([*shell, "scripts/run_i2t.sh", *WORDS], STATUS="3")
    assert done.returncode == 3 and not done.stderr
    assert project.asked()[0][2:] == ["-m", "kaleidobert.released_cli", "i2t", "ROOT/configs", *WORDS]


@pytest.mark.parametrize("script", ["scripts/run_cat.sh", "dataset/get_raw_dataset.sh", "checkpoint/get_checkpoint.sh"])
def test_every_way_of_calling(project, shell, script, tmp_path):
    """By a path, by links to the script and to folders above it, by links of links, on PATH; CDPATH leads nowhere else."""
    path = project.root / script
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/first").symlink_to(os.path.relpath(path, tmp_path.resolve() / "bin"))
    (tmp_path / "bin/second").symlink_to("first")
    (tmp_path / "linked").symlink_to(project.root)
    (tmp_path / "bin/scripts").mkdir()
    ways = {"path": [*shell, str(path)], "itself": [str(path)], "link": [*shell, "bin/first"], "linked link": ["bin/second"],
            "folder": [*shell, f"linked/{script}"], "dots": [*shell, f"bin/../linked/{script}"]}
    for name, words in ways.items():
        done = project.call([*words, "a b"] if "run" in script else [*words, "a=b c"], tmp_path, CDPATH=str(tmp_path / "bin"))
        assert done.returncode == 0 and not done.stderr, (name, done.stderr)
        (line,) = project.asked()
        assert line[1] == str(tmp_path.resolve()), (name, line)
        assert any(word.startswith(("ROOT/configs", "manifest=ROOT/")) for word in line), (name, line)
    done = project.call([*shell, f"./{path.name}"], path.parent)
    assert done.returncode == 0 and len(project.asked()) == 1, done.stderr
    search = f"{path.parent}:{project.variables['PATH']}"
    for words in ([path.name], ["bash", path.name]):  # bash looks on PATH for the script that it is given
        if shutil.which(words[0], path=search):
            done = project.call(words, tmp_path, PATH=search)
            assert done.returncode == 0 and len(project.asked()) == 1, done.stderr


def test_mistakes_in_the_words_of_fetching(project, shell):
    for words in (["--mirror"], ["--only"], ["word"], ["--lst"], ["--list", "--into"]):
        done = project.call([*shell, "dataset/get_raw_dataset.sh", *words])
        assert done.returncode == 2 and "scripts/fetch.sh MANIFEST" in done.stderr and not project.asked()
    assert project.call([*shell, "scripts/fetch.sh"]).returncode == 2
    done = project.call([*shell, "scripts/fetch.sh", "my manifest.json", "--only", "a", "--only", "b c", "--endpoint", "", "workers=2"])
    assert project.asked()[0][2:] == ["fetch", "only=[a, b c]", "manifest=my manifest.json", "endpoint=", "workers=2"], done.stderr


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_package_is_installed_once(project, shell):
    for count in (1, 0):
        assert project.call([*shell, "scripts/run_cat.sh"]).returncode == 0
        lines = [line for line in project.asked(installed=False) if "pip" in line]
        assert [line[2:] for line in lines] == [["-m", "pip", "install", "--quiet", "--editable", "ROOT"]] * count
    assert project.call([*shell, "scripts/test.sh", "-k", "a b"]).returncode == 0
    lines = [line[:1] + line[2:] for line in project.asked(installed=False)]
    assert lines == [["python", "-m", "pip", "install", "--quiet", "--editable", "ROOT[test]"], ["ruff", "check", "."],
                     ["python", "-m", "pytest", "-k", "a b"]]
    assert project.call([*shell, "scripts/test.sh", "--quick"]).returncode == 0
    assert project.asked(installed=False)[-1][2:] == ["-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-m",
                                                      "not slow", "tests"]
    (project.root / "pyproject.toml").write_text("# more is needed\n")
    assert project.call([*shell, "scripts/run_cat.sh"]).returncode == 0
    assert len(project.asked(installed=False)) == 2


def test_an_installation_that_fails_ends_the_script_and_is_tried_again(project, shell):
    for script in ("scripts/run_cat.sh", "scripts/run_align.sh", "dataset/get_raw_dataset.sh", "scripts/quickstart.sh", "scripts/test.sh"):
        for _ in range(2):
            assert project.call([*shell, script], PIP="5").returncode == 5
            assert [line[3] for line in project.asked(installed=False)] == ["pip"], script


def test_an_environment_is_made_where_none_is_active(project, shell, tmp_path):
    """Of the first Python that is found; its activate is what a script of Python's own venv holds."""
    maker = project.environment / "bin/python3.11"
    maker.write_text(f"""#!/bin/sh
mkdir -p "$3/bin" && cp "{project.environment}/bin/python" "{project.environment}/bin/kaleidobert" "$3/bin"
printf 'VIRTUAL_ENV="%s"\\nexport VIRTUAL_ENV\\nPATH="$VIRTUAL_ENV/bin:$PATH"\\nexport PATH\\n' "$3" > "$3/bin/activate"
""")
    maker.chmod(0o755)
    for base in ({"VIRTUAL_ENV": ""}, {"VIRTUAL_ENV": "", "CONDA_PREFIX": "/conda", "CONDA_DEFAULT_ENV": "base"}):
        done = project.call([*shell, "../my project/scripts/run_cat.sh"], project.environment, **base)
        assert done.returncode == 0 and not done.stderr and "making a virtual environment in" in done.stdout
        assert [line[3] for line in project.asked(installed=False)] == ["pip", "kaleidobert.released_cli"]
        assert project.call([*shell, "scripts/run_cat.sh"], **base).stdout == "" and len(project.asked(installed=False)) == 1
        shutil.rmtree(project.root / ".venv")
    maker.write_text("#!/bin/sh\nexit 4\n")
    done = project.call([*shell, "scripts/run_cat.sh"], VIRTUAL_ENV="")
    assert done.returncode == 4
    bare = tmp_path / "bare"  # no Python at all
    bare.mkdir()
    for name in (shell[0], "dirname", "readlink"):
        (bare / name).symlink_to(shutil.which(name))
    done = project.call([*shell, "scripts/run_cat.sh"], VIRTUAL_ENV="", PATH=str(bare))
    assert done.returncode == 1 and "install Python 3.11 or newer" in done.stderr and len(done.stderr.splitlines()) == 1


def test_scripts_that_begin_together_install_one_after_the_other(project, shell):
    """The second waits as long as another process holds the lock on pyproject.toml."""
    if shutil.which("flock") is None:
        pytest.skip("flock is not installed")
    with open(project.root / "pyproject.toml", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = subprocess.Popen([*shell, "scripts/run_cat.sh"], cwd=project.root, env=project.variables)
        time.sleep(1)
        assert waiting.poll() is None and not project.asked(installed=False)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waiting.wait(60) == 0
    with open(project.root / "pyproject.toml", "a") as file:  # the command does not hold it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(project.asked(installed=False)) == 2


def test_a_project_that_cannot_be_written_is_used_without_a_lock(project, shell):
    """Where pyproject.toml cannot be opened for writing there is nothing to lock, and nothing to say."""
    (project.root / "pyproject.toml").unlink()
    (project.root / "pyproject.toml").mkdir()  # no permission keeps the superuser from a file
    done = project.call([*shell, "scripts/run_cat.sh"])
    assert done.returncode == 0 and len(project.asked()) == 1 and "pyproject.toml: " not in done.stderr.replace("cksum", "")


def test_the_environment_is_no_script_of_its_own(project, shell):
    done = project.call([*shell, "scripts/environment.sh"])
    assert done.returncode and "is sourced by the other scripts" in done.stderr and not project.asked()


# --- the other scripts ------------------------------------------------------------------------------------------------


def test_the_quickstart_enters_the_environment_and_calls_the_command(project, shell, tmp_path):
    """The commands of the quickstart itself: tests/app_zoo/test_quickstart.py."""
    for words in ([], ["--reduced"]):
        done = project.call([*shell, str(project.root / "scripts/quickstart.sh"), *words], tmp_path)
        assert done.returncode == 0 and not done.stderr
        assert project.asked() == [["kaleidobert", "ROOT", "quickstart", *words]]
    done = project.call([*shell, "scripts/quickstart.sh"], STATUS="9")
    assert done.returncode == 9 and len(project.asked()) == 1
    for words in (["--reducd"], [""], ["--reduced", "x"]):
        done = project.call([*shell, "scripts/quickstart.sh", *words])
        assert done.returncode == 2 and done.stderr.startswith("usage:") and not project.asked()


def test_the_test_command_and_what_calls_it(project, shell, tmp_path):
    """The reduced quickstart is one of the tests, in a folder of its own: results of this user's stay."""
    (project.root / "runs/quickstart_reduced/old").mkdir(parents=True)
    for script in ("scripts/test.sh", ".ci/run"):
        done = project.call([*shell, str(project.root / script)], tmp_path)
        lines = project.asked()
        assert done.returncode == 0 and not done.stderr and [line[2:4] for line in lines] == [["check", "."], ["-m", "pytest"]]
        assert lines[1][-1] == "tests" and (project.root / "runs/quickstart_reduced/old").exists()
        assert project.call([*shell, script], STATUS="6").returncode == 6
        project.asked()


def test_the_wheels(project, shell):
    for words, folder, version in (([], "runs/wheels", "3.12"), (["my wheels", "3.14"], "my wheels", "3.14")):
        (project.root / folder).mkdir(parents=True)  # is made anew; what stands in for pip makes none
        done = project.call([*shell, "benchmarks/wheels.sh", *words])
        (line,) = project.asked(installed=False)
        assert not (project.root / folder).exists() and done.returncode  # ls
        assert line[line.index("--dest") + 1] == folder and line[line.index("--python-version") + 1] == version
        assert line[line.index("--abi") + 1] == f"cp{version.replace('.', '')}" and "keras>=3.15,<3.16" in line


def test_the_folders_below_scripts_are_links():
    """In the repository too, where it is one."""
    for name in ("dataset", "checkpoint"):
        assert os.readlink(ROOT / "scripts" / name) == f"../{name}"
    if (ROOT / ".git").exists() and shutil.which("git"):
        words = ["git", "ls-files", "-s", "scripts/dataset", "scripts/checkpoint"]
        listed = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
        assert listed.returncode or [line.split()[0] for line in listed.stdout.splitlines()] == ["120000"] * 2
