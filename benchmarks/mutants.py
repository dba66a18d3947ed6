"""A mutation check: small mistakes are put into a copy of the source; does a test notice each?

    python benchmarks/line_tests.py RECORD.json tests/graph tests/net     # which tests run a line
    python benchmarks/mutants.py --record RECORD.json --results RESULTS.jsonl src/moka/graph
    python benchmarks/mutants.py --results RESULTS.jsonl --again     # the survivors, by new tests

Mutants of different lines are drawn from all files, more from longer ones, the same for the same
--seed. Each is tried in a process forked from one that has imported PyTorch: first the tests of the
file with the mirrored name, then others of the record that execute the line, at most --others
seconds of them. A mutant that no test notices is a survivor: it wants a test, or the changed code
does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from changed_tree import KILLED, LATE, SURVIVED, UNTESTED, Tree
from line_tests import Record
from mutation_points import Mutant, sample

MIRRORED_S = 60.0  # the tests of one file may take this long


@dataclass(frozen=True)
class Result:
    """file: from the root; by: the test that failed first."""

    file: str
    mutant: Mutant
    outcome: str
    by: str
    seconds: float


Stages = list[tuple[list[str], float]]  # tests to run in turn, and the seconds that they take


def mirrored(file: str) -> str:
    """How the paths of the tests of a source file begin."""
    path = Path(file).relative_to("src/moka")
    return str(Path("tests", path.parent, f"test_{path.stem}"))


def mirrored_files(file: str) -> list[str]:
    return [str(path) for path in sorted(Path().glob(mirrored(file) + "*.py"))]


def stages(file: str, mutant: Mutant, record: Record, others_s: float) -> Stages:
    """The tests that execute the line: those of the mirrored file, then others."""
    lines = record.lines.get(file, {})
    if mutant.at_import:
        found = {t for tests in lines.values() for t in tests}
    else:
        found = {t for n in range(mutant.first, mutant.last + 1) for t in lines.get(n, ())}
    own = mirrored(file)
    package = str(Path(own).parent)
    tests = sorted((record.tests[t] for t in found), key=lambda test: test[1])
    first = [test for test in tests if test[0].partition("::")[0].startswith(own)]
    then: list[tuple[str, float]] = []
    for test in sorted(tests, key=lambda test: not test[0].startswith(package)):
        if test not in first and sum(s for _, s in then) + test[1] <= others_s:
            then.append(test)
    return [([n for n, _ in part], sum(s for _, s in part)) for part in (first, then) if part]


def drawn(files: Sequence[str], count: int, seed: str) -> list[tuple[str, Mutant]]:
    """`count` mutants of all files, at least one of each, in a random order."""
    sources = {file: Path(file).read_text() for file in files}
    per_byte = count / sum(len(text) for text in sources.values())
    found: list[tuple[str, Mutant]] = []
    for file, text in sources.items():
        chosen = sample(text, max(1, round(len(text) * per_byte)), seed + file)
        found += [(file, mutant) for mutant in chosen]
    random.Random(seed).shuffle(found)
    return found


def tried(
    tree: Tree, file: str, mutant: Mutant, tests: Iterable[tuple[list[str], float]]
) -> Result:
    source = Path(file).read_text()
    began = time.monotonic()
    outcome, by = UNTESTED, ""
    tree.write(file, mutant.applied(source))
    for names, seconds in tests:
        outcome, by = tree.run(names, seconds)
        if outcome in (KILLED, LATE):
            break
    tree.write(file, source)
    return Result(file, mutant, outcome, by, round(time.monotonic() - began, 1))


def tried_again(tree: Tree, result: Result, record: Record, others_s: float) -> Result:
    """By all tests of the mirrored file as they are now; the same result if the code is another."""
    data, mutant = Path(result.file).read_bytes(), result.mutant
    if data[mutant.start : mutant.end].decode() != mutant.old:
        return result
    own = mirrored_files(result.file)
    others = stages(result.file, mutant, record, others_s)[-1:]
    return tried(tree, result.file, mutant, [(own, MIRRORED_S)] * bool(own) + others)


def read(path: Path) -> list[Result]:
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [Result(**(one | {"mutant": Mutant(**one["mutant"])})) for one in found]


def write(path: Path, results: Iterable[Result]) -> None:
    """Replace the file; whoever reads it meanwhile finds the old one."""
    part = path.with_name(f"{path.name}.part")
    part.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results))
    part.replace(path)


def table(results: Sequence[Result]) -> str:
    """How many of each folder came out how."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        folder = str(Path(result.file).relative_to("src/moka").parent)
        counts.setdefault(folder, Counter())[result.outcome] += 1
    outcomes = (KILLED, LATE, SURVIVED, UNTESTED)
    rows = [" | ".join(("| folder | mutants", *outcomes)) + " |", "|---" * 6 + "|"]
    for folder, of_folder in sorted(counts.items()):
        numbers = (of_folder.total(), *(of_folder[o] for o in outcomes))
        rows.append(f"| {folder}/ | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(rows)


def show(result: Result) -> None:
    mutant = result.mutant
    by = result.by or f"{mutant.old} -> {mutant.new}"
    print(f"{result.outcome} {result.file}:{mutant.first} {by} ({result.seconds} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders of src/moka")
    parser.add_argument("--record", type=Path, nargs="*", default=[], help="from line_tests.py")
    parser.add_argument("--results", type=Path, required=True, help="a line for each mutant")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--others", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--again", action="store_true", help="the survivors of --results")
    flags = parser.parse_args()
    root = Path.cwd()
    results_path = flags.results.resolve()
    results = read(results_path)
    found = [f for p in flags.paths for f in (sorted(p.rglob("*.py")) if p.is_dir() else [p])]
    files = [str(file.resolve().relative_to(root)) for file in found]
    record = Record()
    for path in flags.record:
        record.merge(Record.load(path))
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(root, Path(folder))
        tree.enter()
        changed = files or [result.file for result in results]
        tree.import_packages([t for file in changed for t in mirrored_files(file)])
        if flags.again:
            for i, result in enumerate(results):
                if result.outcome in (SURVIVED, UNTESTED):
                    results[i] = tried_again(tree, result, record, flags.others)
                    write(results_path, results)
                    show(results[i])
        else:
            chosen = drawn(files, flags.count, flags.seed)
            while True:
                for file, mutant in chosen:
                    if not any(r.file == file and r.mutant == mutant for r in results):
                        tests = stages(file, mutant, record, flags.others)
                        results.append(tried(tree, file, mutant, tests))
                        write(results_path, results)
                        show(results[-1])
                unsound = tree.failing(sorted({r.by for r in results if r.by}))
                if not unsound:
                    break
                print("fail without any change, left out now:", *unsound, sep="\n  ")
                record = record.without(unsound)
                results = [r for r in results if r.by not in unsound]
        os.chdir(root)
    print(table(results))


if __name__ == "__main__":
    main()
