"""What the README shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_example_prints_the_seeds_table_and_candidates(start):
    _, address = start()
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) == 9
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example.replace("localhost:50051", address), {})
    lines = printed.getvalue().splitlines()
    assert lines[:5] == ["40 I", "1842  love", "2980  Gener", "876 ative", "9552  AI"]
    steps, rest = divmod(len(lines) - 5, 11)  # a line a step and one for each candidate
    assert steps >= 1
    assert rest == 0


def test_every_file_and_folder_that_the_readme_names_is_there():
    text = (ROOT / "README.md").read_text()
    tree = re.findall(r"^    ([a-z]+/[\w/]*)", text, re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(tree) >= 8
    for name in (*tree, *links):
        assert (ROOT / name).exists(), name
